"""Robustify: load what `unlearn` saved, distill it so that it withstands relearning, save it anew."""

from typing import Literal

from pydantic import Field

from hf_untangle import models
from hf_untangle.compaction.saving import bytes_of
from hf_untangle.configs.robustify import RobustifyConfig
from hf_untangle.folders import check_replaceable
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import HubOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.recipes.unlearn import show
from hf_untangle.results.unlearned import UnlearnResult


class Recipe(HubOption):
    """A distillation of a model that has unlearned."""

    task: Literal["robustify"] = Field(description="What kind of job this is.")
    folder: str = Field(description="A folder that an unlearning job wrote.")
    retain: CorpusChoice | None = Field(default=None, description="The corpus to distill on; the run's own when left out.")
    forget: CorpusChoice | None = Field(
        default=None, description="The run's forget corpus, which has to be named again only where it was a file."
    )
    settings: RobustifyConfig = Field(default_factory=RobustifyConfig, description="How far to go, and how to train.")
    output: str = Field(description="The folder that the robust result is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the robust result is saved in the recipe's output folder.
    """
    check_replaceable(recipe.output, source=recipe.folder)
    chosen = {"forget": recipe.forget, "retain": recipe.retain}
    corpora = {use: choice.open() for use, choice in chosen.items() if choice is not None}
    result = UnlearnResult.from_pretrained(recipe.folder, corpora=corpora, **recipe.placing)
    check_replaceable(recipe.output, needs=bytes_of(result.model))
    robust = result.robustify(corpora.get("retain"), config=recipe.settings, progress=progress)
    robust.save_pretrained(recipe.output, license=models.license_of_embedded(robust.record.model))
    return Outcome(robust.record.model_dump(mode="json"), lambda console: show(robust, recipe.output, console))
