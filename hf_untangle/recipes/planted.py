"""The experiment with planted neurons: which importance finds the neurons that a language is known to live in."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table

from hf_untangle.folders import MARKER, check_replaceable, whole_folder
from hf_untangle.papers.planted.experiment import PlantedRecord, find_planted
from hf_untangle.recipes.plan import Outcome


class Recipe(BaseModel):
    """A job that trains models with a planted language and tries importances on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["planted"] = Field(description="What kind of job this is.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Fields of `PlantedConfig`.")
    output: str = Field(description="The folder that the result is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show a progress bar.

    Returns:
        What came of it; the record is in the recipe's output folder.
    """
    check_replaceable(recipe.output)
    record = find_planted(progress=progress, **recipe.settings)
    with whole_folder(recipe.output) as draft:
        (draft / MARKER).write_bytes(to_json(record, indent=2))
    return Outcome(record.model_dump(mode="json"), lambda console: _show(record, recipe.output, console))


def _show(record: PlantedRecord, output: str, console: Console) -> None:
    """Print one line per mask."""
    table = Table("mask", "planted neurons found", "accuracy on the first language", "on the second, to be forgotten")
    for row in record.rows:
        table.add_row(row.mask, *(f"{value:.1%}" for value in (row.found, row.first, row.second)))
    console.print(table)
    console.print(f"Saved in {output}: {MARKER}.")
