"""Repair: load what `unlearn` or `prune` saved, train it on its retain corpus, save it anew."""

from typing import Any, Literal

from pydantic import Field

from hf_untangle import models
from hf_untangle.compaction.saving import bytes_of
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.folders import check_replaceable
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import HubOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.recipes.unlearn import show
from hf_untangle.reporting.compression import prune_table
from hf_untangle.results.pruned import PruneResult
from hf_untangle.results.reading import read_result
from hf_untangle.results.unlearned import UnlearnResult


class Recipe(HubOption):
    """A repair of a model that has unlearned."""

    task: Literal["repair"] = Field(description="What kind of job this is.")
    folder: str = Field(description="A folder that an unlearning or a pruning job wrote.")
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
    check_replaceable(recipe.output, source=recipe.folder)
    chosen = {"forget": recipe.forget, "retain": recipe.retain}
    corpora = {use: choice.open() for use, choice in chosen.items() if choice is not None}
    named = corpora | ({"data": corpora["retain"]} if "retain" in corpora else {})
    result = read_result(recipe.folder, corpora=named, **recipe.placing)
    check_replaceable(recipe.output, needs=bytes_of(result.model))
    how: dict[str, Any] = {"original": recipe.original, "config": recipe.settings, "progress": progress}
    if isinstance(result, PruneResult):
        compressed = result.repair(corpora.get("retain"), **how)
        compressed.save_pretrained(recipe.output, license=models.license_of_embedded(compressed.record.model))
        return Outcome(compressed.record.model_dump(mode="json"), lambda console: console.print(prune_table(compressed.record)))
    assert isinstance(result, UnlearnResult)
    repaired = result.repair(corpora.get("retain"), **how)
    repaired.save_pretrained(recipe.output, license=models.license_of_embedded(repaired.record.model))
    return Outcome(repaired.record.model_dump(mode="json"), lambda console: show(repaired, recipe.output, console))
