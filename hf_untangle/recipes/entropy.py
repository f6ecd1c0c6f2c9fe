"""Entropy: what bits or neurons of low and high entropy are worth, in and out of distribution."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from rich.console import Console
from rich.table import Table

from hf_untangle import models
from hf_untangle.data.batches import token_blocks
from hf_untangle.entropy.neuron_masks import measure_neurons
from hf_untangle.entropy.neuron_record import NeuronEntropyConfig, NeuronRecord, spread
from hf_untangle.errors import ConfigError
from hf_untangle.folders import MARKER, check_replaceable, whole_folder
from hf_untangle.papers.contrast.contrast_config import ContrastExperimentConfig
from hf_untangle.papers.contrast.contrast_record import ContrastRecord
from hf_untangle.papers.contrast.encoders import ItemSets
from hf_untangle.papers.contrast.experiment import run_contrast
from hf_untangle.papers.contrast.image_items import cifar10_items, digit_items
from hf_untangle.papers.contrast.modeling import ContrastModel
from hf_untangle.papers.contrast.text_items import manual, text_items
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.reporting.entropy_plots import masking_costs
from hf_untangle.reporting.style import quiet_style

DATA: dict[str, Callable[[], ItemSets]] = {"digits": digit_items, "cifar10": cifar10_items, "texts": text_items}
"""What a k-contrast model can be trained on."""


class Recipe(ModelOption):
    """An entropy job: on bits of a model that is trained for it, or on neurons of a language model."""

    task: Literal["entropy"] = Field(description="What kind of job this is.")
    data: Literal["digits", "cifar10", "texts"] | None = Field(
        default=None, description="Train k-contrast models on these items; `texts` takes `corpus` and `shifts`."
    )
    model: str | None = Field(
        default=None, description="Mask neurons of this language model: a Hub id, a folder, or `smollm2`."
    )
    corpus: CorpusChoice = Field(default=CorpusChoice(source="general"), description="Texts in distribution.")
    shifts: dict[str, CorpusChoice] | None = Field(
        default=None, description="Texts out of distribution, by name; code and Python's manual when left out."
    )
    preset: str = Field(
        default="default", description="Settings of a k-contrast experiment to start from: `default` or `paper`."
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings that differ.")
    output: str = Field(description="The folder that the result is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the record, its figure and the trained models are in the recipe's output folder.

    Raises:
        ConfigError: The recipe names both or neither of `data` and `model`, or a setting is wrong.
    """
    check_replaceable(recipe.output, source=recipe.model)
    if (recipe.data is None) == (recipe.model is None):
        raise ConfigError(
            "An entropy job needs either `data`, to train k-contrast models on, or `model`, whose neurons are masked. Name one."
        )
    record, trained = _contrast(recipe, progress) if recipe.data else (_neurons(recipe, progress), {})
    _save(record, trained, recipe.output)
    return Outcome(record.model_dump(mode="json"), lambda console: _show(record, recipe.output, console))


def _contrast(recipe: Recipe, progress: bool) -> tuple[ContrastRecord, dict[int, ContrastModel]]:
    """Train and mask k-contrast models."""
    settings = ContrastExperimentConfig.resolve(recipe.preset, **recipe.settings)
    experiment = run_contrast(_items(recipe), settings, progress=progress)
    return experiment.record, experiment.models


def _items(recipe: Recipe) -> ItemSets:
    """Read what is trained on."""
    if recipe.data != "texts":
        return DATA[str(recipe.data)]()
    shifts = None if recipe.shifts is None else {name: choice.open() for name, choice in recipe.shifts.items()}
    return text_items(recipe.corpus.open(), shifts)


def _neurons(recipe: Recipe, progress: bool) -> NeuronRecord:
    """Mask neurons of a language model."""
    settings = NeuronEntropyConfig.resolve(**recipe.settings)
    near = recipe.corpus.open()
    if recipe.shifts is None:
        far = {"code": CorpusChoice(source="code", prefer="embedded").open(), "manual": manual()}
    else:
        far = {name: choice.open() for name, choice in recipe.shifts.items()}
    model, tokenizer = models.load(str(recipe.model), **recipe.loading)
    read = partial(token_blocks, tokenizer=tokenizer, block_size=settings.block_size)
    sets = {near.name: near, **far}
    tests = {name: read(each, tokens=settings.evaluation_tokens, part="test") for name, each in sets.items()}
    prose = read(near, tokens=settings.tokens * settings.seeds)
    return measure_neurons(model, prose, tests, settings, progress=progress)


def _save(record: ContrastRecord | NeuronRecord, trained: Mapping[int, ContrastModel], output: str) -> None:
    """Write the record, the figure and the models, whole or not at all."""
    with whole_folder(output) as draft:
        (draft / MARKER).write_text(json.dumps(record.model_dump(mode="json"), indent=1), encoding="utf-8")
        with quiet_style():
            masking_costs(record).savefig(draft / "masking.svg", metadata={"Date": None})
        for seed, model in trained.items():
            model.save_pretrained(Path(draft) / f"seed-{seed}")


def _show(record: ContrastRecord | NeuronRecord, output: str, console: Console) -> None:
    """Print the change of accuracy for every set, share and order, and what was left out."""
    orders = tuple(dict.fromkeys(cell.order for cell in record.cells))
    table = Table("set", "accuracy", "share masked", *orders)
    for name in record.sets:
        for share in record.settings.shares:
            changes = [record.changes(name, order, share) for order in orders]
            if all(changes):
                before = "{:.1%} ± {:.1%}".format(*spread(record.base(name)))
                label = share if isinstance(share, str) else f"{share:.0%}"
                table.add_row(name, before, label, *("{:+.1%} ± {:.1%}".format(*spread(one)) for one in changes))
    console.print(table)
    for model in record.models if isinstance(record, ContrastRecord) else ():
        if model.left_out:
            console.print(f"Left out: {model.left_out}")
    console.print(f"Saved in {output}: {MARKER} (every number) and masking.svg.")
