"""Benchmark of facts: methods beside original, gold and controls, in the terms of TOFU."""

from typing import Any, Literal

from pydantic import Field

from hf_untangle.bench.facts import bench_facts
from hf_untangle.bench.facts_config import FactsBenchConfig
from hf_untangle.bench.facts_table import facts_markdown, facts_notes, facts_table
from hf_untangle.recipes.bench_outcome import checked_preset, saved_benchmark
from hf_untangle.recipes.model_option import HubOption
from hf_untangle.recipes.plan import Outcome


class Recipe(HubOption):
    """A benchmark of unlearning methods on invented facts."""

    task: Literal["facts"] = Field(description="What kind of job this is.")
    model: str = Field(default="smollm2", description="A Hub id, a folder, or a model in a package, which needs no network.")
    quick: bool = Field(default=False, description="Start from settings meant for half an hour of SmolLM2 on two cores.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Fields of `FactsBenchConfig` that differ.")
    output: str = Field(default="out/bench-facts", description="The folder that the result is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the record and the table are in the recipe's output folder.
    """
    preset = checked_preset(FactsBenchConfig, recipe.settings, recipe.output, quick=recipe.quick)
    record = bench_facts(recipe.model, loading=recipe.placing, config=preset, progress=progress, **recipe.settings)
    files = {"facts.md": facts_markdown(record)}
    return saved_benchmark(recipe.output, record, files, facts_table(record), facts_notes(record))
