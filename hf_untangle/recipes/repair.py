"""Repair: load what `unlearn` saved, train it on its retain corpus, save it anew."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hf_untangle import models
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.data.corpora import Corpus
from hf_untangle.folders import check_replaceable
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.job_result import Outcome
from hf_untangle.recipes.saved import read_result
from hf_untangle.recipes.unlearn import show


class Recipe(BaseModel):
    """A repair of a model that has unlearned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["repair"] = Field(description="What kind of job this is.")
    folder: str = Field(description="A folder that an unlearning job wrote.")
    retain: CorpusChoice | None = Field(default=None, description="The corpus to train on; the run's own when left out.")
    forget: CorpusChoice | None = Field(
        default=None, description="The run's forget corpus, which has to be named again only where it was a file."
    )
    original: str | None = Field(default=None, description="The model before unlearning, which `distill` learns from.")
    settings: RepairConfig = Field(default_factory=RepairConfig, description="How to train.")
    output: str = Field(description="The folder that the repaired result is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the repaired result is saved in the recipe's output folder.
    """
    check_replaceable(recipe.output)
    retain, forget = _open(recipe.retain), _open(recipe.forget)
    result = read_result(recipe.folder, forget=forget, retain=retain)
    result = result.repair(retain, original=recipe.original, progress=progress, **recipe.settings.model_dump())
    embedded = {one.hub_id: one.license for one in models.EMBEDDED.values()}
    result.save_pretrained(recipe.output, license=embedded.get(result.record.model))
    return Outcome(result.record.model_dump(mode="json"), lambda console: show(result, recipe.output, console))


def _open(choice: CorpusChoice | None) -> Corpus | None:
    """Open a corpus, where one was chosen."""
    return None if choice is None else choice.open()
