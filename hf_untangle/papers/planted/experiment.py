"""Which importance finds the neurons that a language is known to live in, and what is left of both languages without them?"""

from collections.abc import Mapping
from statistics import fmean

from pydantic import ConfigDict, Field

from hf_untangle.arguments import checked_arguments
from hf_untangle.config import Config, Plain
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.papers.planted.languages import as_blocks, languages
from hf_untangle.papers.planted.planted_model import Planted, planted_model
from hf_untangle.progress import track
from hf_untangle.pruning.step import Pair, gather, remove_next

HELD_OUT = 10**6
"""Seed of held-out text, beyond those of training."""


class PlantedConfig(Config):
    """Settings of the experiment with planted neurons."""

    importances: tuple[str, ...] = Field(
        default=("rms", "abs", "std", "freq", "wanda", "taylor"), min_length=1, description="Importances to try."
    )
    seeds: int = Field(default=3, ge=1, description="Models that are trained, each with a seed of its own.")
    steps: int = Field(default=600, ge=1, description="Updates of the weights.")
    share: float = Field(default=0.125, gt=0, lt=1, description="Share of every neuron group that is planted.")
    width: int = Field(default=64, ge=8, multiple_of=8, description="Width of the residual stream.")
    blocks: int = Field(default=512, ge=1, description="Blocks of each language that scores and accuracies are computed on.")


class PlantedRow(Plain):
    """What one mask finds and costs, as means over models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: str
    """An importance, `none`, or `the planted neurons`."""
    found: float
    """Share of the planted neurons that it removes."""
    first: float
    """Next-token accuracy on the first language, which is retained."""
    second: float
    """Next-token accuracy on the second language, which is to be forgotten."""


class PlantedRecord(Plain):
    """The whole experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: PlantedConfig
    rows: tuple[PlantedRow, ...]


@checked_arguments
def find_planted(config: PlantedConfig | str = "default", *, progress: bool = True, **settings: object) -> PlantedRecord:
    """Train models with a planted language, and let importances find its neurons.

    Every mask removes as many FFN and as many attention neurons as were planted, so that its precision is its recall. Random
    neurons find `share` of them.

    Args:
        config: Settings, or the name of a preset.
        progress: Whether to show a progress bar over models.
        **settings: Fields of `PlantedConfig` that override `config`.

    Returns:
        One row per importance, after one without a mask and one with the planted neurons themselves.

    Raises:
        ConfigError: A setting is unknown or out of its range, or there is no such importance.
    """
    resolved = PlantedConfig.resolve(config, **settings)
    choices = {name: _removing(resolved, name) for name in resolved.importances}
    rows: list[PlantedRow] = []
    with track("planted models", resolved.seeds, unit="model", progress=progress) as bar:
        for seed in range(resolved.seeds):
            planted = planted_model(seed, steps=resolved.steps, share=resolved.share, width=resolved.width)
            rows += _rows(planted, seed, resolved.blocks, choices)
            bar.update()
    return PlantedRecord(settings=resolved, rows=tuple(_mean(rows, name) for name in dict.fromkeys(row.mask for row in rows)))


def _removing(config: PlantedConfig, importance: str) -> UnlearnConfig:
    """Settings that remove as many neurons of each kind as are planted, in one step."""
    share = {"ffn_fraction": config.share, "attention_fraction": config.share}
    return UnlearnConfig.resolve(importance=importance, candidates=1.0, gradient_tokens=10**6, batch_size=64, **share)


def _rows(planted: Planted, seed: int, blocks: int, choices: Mapping[str, UnlearnConfig]) -> list[PlantedRow]:
    """Every mask on one model."""
    first, second = _text(seed, blocks, HELD_OUT)
    tests = _text(seed, blocks, HELD_OUT + 1)
    everything = NeuronMask.keep_all(planted.groups, str(planted.model.name_or_path))
    masks = {"none": everything, "the planted neurons": planted.mask}
    for importance, settings in choices.items():
        evidence = gather(planted.model, planted.groups, Pair(second, first), settings, progress=False)
        masks[importance] = remove_next(everything, evidence, planted.groups, settings)
    return [_row(name, planted, mask, tests) for name, mask in masks.items()]


def _text(seed: int, blocks: int, text: int) -> tuple[TokenBlocks, TokenBlocks]:
    """Text of the first and of the second language."""
    first, second = languages(seed)
    return as_blocks(first.text(blocks, text), "first", "test"), as_blocks(second.text(blocks, text), "second", "test")


def _row(name: str, planted: Planted, mask: NeuronMask, tests: tuple[TokenBlocks, TokenBlocks]) -> PlantedRow:
    """What one mask finds and costs on one model."""
    found = (mask | planted.mask).removed() / planted.mask.removed()
    with masked(planted.model, mask):
        first, second = (next_token_metrics(planted.model, blocks, progress=False).top1 for blocks in tests)
    return PlantedRow(mask=name, found=found, first=first, second=second)


def _mean(rows: list[PlantedRow], name: str) -> PlantedRow:
    """The mean over models of one mask."""
    same = [row for row in rows if row.mask == name]
    return PlantedRow(
        mask=name,
        found=fmean(row.found for row in same),
        first=fmean(row.first for row in same),
        second=fmean(row.second for row in same),
    )
