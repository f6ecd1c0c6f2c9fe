"""Density: sweep one model on a corpus, or a family of networks across its widths, and save what was found."""

from dataclasses import asdict
from typing import Any, Literal

from matplotlib.figure import Figure
from pydantic import Field, model_validator
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table

from hf_untangle import models
from hf_untangle.density import DensityResult, SweepConfig, sweep
from hf_untangle.errors import ConfigError
from hf_untangle.folders import MARKER, check_replaceable, whole_folder
from hf_untangle.papers import (
    LanguageTraining,
    ScalingResult,
    Training,
    across_widths,
    image_family,
    language_family,
    pretrained_family,
)
from hf_untangle.papers.networks import NETWORKS
from hf_untangle.papers.scaling.families import Family, Width
from hf_untangle.papers.scaling.language import LANGUAGE_MODELS
from hf_untangle.papers.scaling.plots import density_across_widths
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.reporting.density import density_curves


class Recipe(ModelOption):
    """A density job: either `model`, or `family` with `widths`."""

    task: Literal["density"] = Field(description="What kind of job this is.")
    model: str | None = Field(default=None, description="One model: a Hub id, a folder, or `smollm2`, which needs no network.")
    family: str | None = Field(
        default=None,
        description="Many networks: mlp, convolutional, residual, gpt2, llama, or Hub names with {} for the width.",
    )
    widths: tuple[Width, ...] = Field(default=(), description="Of the family: numbers, or what stands for {} in its name.")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="A network is trained for each.")
    corpus: CorpusChoice = Field(
        default=CorpusChoice(source="general"), description="What language models are judged on, and learn if they are trained."
    )
    images: str = Field(default="digits", description="What classifiers learn: digits, mnist or cifar10.")
    training: dict[str, Any] = Field(default_factory=dict, description="Fields of `Training`, or of `LanguageTraining`.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Fields of `SweepConfig`.")
    control: bool = Field(default=True, description="Whether to sweep in random order too.")
    output: str = Field(description="The folder that the result is written to.")

    @model_validator(mode="after")
    def _one_or_many(self) -> "Recipe":
        """Refuse a job that says neither, or both, of what to sweep."""
        if (self.model is None) == (self.family is None) or (self.family is not None and not self.widths):
            raise ValueError("a density job needs either `model`, or `family` with `widths`")
        return self


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; numbers and figure are saved in the recipe's output folder.
    """
    check_replaceable(recipe.output, source=recipe.model)
    config = SweepConfig.resolve(**recipe.settings)
    if recipe.family is None:
        return _sweep_model(recipe, config, progress)
    family = _family(recipe)
    result = across_widths(family, recipe.widths, recipe.seeds, config=config, control=recipe.control, progress=progress)
    record = {"recipe": recipe.model_dump(mode="json"), **result.record()}
    _save(recipe.output, record, density_across_widths([result]))
    return Outcome(record, lambda console: _show_widths(result, recipe.output, console))


def _sweep_model(recipe: Recipe, config: SweepConfig, progress: bool) -> Outcome:
    """Sweep one language model, and the same in random order."""
    corpus = recipe.corpus.open()
    model, tokenizer = models.load(str(recipe.model), **recipe.loading)
    configs = [config]
    if recipe.control and config.score != "random":
        configs.append(config.with_settings(score="random"))
    results = {one.score: sweep(model, corpus, config=one, tokenizer=tokenizer, progress=progress) for one in configs}
    record = {"recipe": recipe.model_dump(mode="json")} | {name: result.record() for name, result in results.items()}
    _save(recipe.output, record, density_curves(results))
    return Outcome(record, lambda console: _show_sweeps(results, recipe.output, console))


def _family(recipe: Recipe) -> Family:
    """The family that a recipe names, trained as it says."""
    name = str(recipe.family)
    try:
        if name in NETWORKS:
            return image_family(name, data=recipe.images, training=Training(**recipe.training))
        if name in LANGUAGE_MODELS:
            return language_family(name, corpus=recipe.corpus.open(), training=LanguageTraining(**recipe.training))
    except TypeError as error:
        kind = Training if name in NETWORKS else LanguageTraining
        raise ConfigError(f"`training` may have the keys {', '.join(asdict(kind()))}, got {recipe.training}.") from error
    if "{}" not in name:
        known = ", ".join([*NETWORKS, *LANGUAGE_MODELS])
        raise ConfigError(f"A family must be one of {known}, or a name such as `org/model-{{}}`, got `{name}`.")
    return pretrained_family(name, corpus=recipe.corpus.open(), **recipe.loading)


def _save(output: str, record: dict[str, Any], figure: Figure) -> None:
    """Write the record and the figure, whole or not at all."""
    with whole_folder(output) as draft:
        (draft / MARKER).write_bytes(to_json(record, indent=2, inf_nan_mode="strings"))
        figure.savefig(draft / "density.png", dpi=150)


def _show_sweeps(results: dict[str, DensityResult], output: str, console: Console) -> None:
    """Print one line a ranking."""
    table = Table("ranked by", "whole network", "limit", "prunable share", "last crossing", "core", "of")
    for name, result in results.items():
        shares = (f"{result.first:.0%}{'' if result.falls else ' (never left)'}", f"{result.last:.0%}")
        sizes = (f"{result.unprunable:,}", f"{result.parameters:,}")
        table.add_row(name, f"{result.base:.4f}", f"{result.limit:.4f}", *shares, *sizes)
    console.print(table)
    console.print(f"Saved in {output}: untangle.json (every number) and density.png.")


def _show_widths(result: ScalingResult, output: str, console: Console) -> None:
    """Print one line a width, the fit and the claims."""
    table = Table("width", "parameters", "metric", "prunable share", "in random order", "core")
    for width in result.widths:
        share = f"{width.share:.1%} ± {100 * width.share_spread:.1f}"
        chance = "" if width.random is None else f"{width.random:.1%}"
        table.add_row(str(width.width), f"{width.parameters:,}", f"{width.base:.4f}", share, chance, f"{width.unprunable:,.0f}")
    console.print(table)
    if result.fit is not None:
        console.print(f"log(core) against log(parameters): {result.fit.describe()}.")
    if not result.claims:
        console.print("Nothing is claimed of how the core grows: that takes networks of at least two sizes, each with a core.")
    for claim in result.claims:
        console.print(f"{claim.text}: {'holds' if claim.holds else 'does not hold'} ({claim.evidence})")
    console.print(f"Saved in {output}: untangle.json (every number) and density.png.")
