"""Benchmark of facts: methods beside original, gold and controls, in the terms of TOFU."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from rich.console import Console

from hf_untangle.bench.facts import bench_facts
from hf_untangle.bench.facts_config import FactsBenchConfig
from hf_untangle.bench.facts_table import facts_markdown, facts_notes, facts_table
from hf_untangle.folders import MARKER, check_replaceable, whole_folder
from hf_untangle.recipes.plan import Outcome


class Recipe(BaseModel):
    """A benchmark of unlearning methods on invented facts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    preset = "quick" if recipe.quick else "default"
    FactsBenchConfig.resolve(preset, **recipe.settings)
    check_replaceable(recipe.output)
    record = bench_facts(recipe.model, config=preset, progress=progress, **recipe.settings)
    with whole_folder(recipe.output) as draft:
        (draft / MARKER).write_bytes(to_json(record, indent=2))
        (draft / "facts.md").write_text(facts_markdown(record), encoding="utf-8")

    def show(console: Console) -> None:
        console.print(facts_table(record))
        for note in facts_notes(record):
            console.print(f"- {note}", highlight=False)
        console.print(f"Saved in {recipe.output}: {MARKER}, facts.md.")

    return Outcome(record.model_dump(mode="json"), show)
