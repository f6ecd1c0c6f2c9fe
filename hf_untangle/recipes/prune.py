"""Prune: load a model, take the neurons out that a corpus needs least, save what is left."""

from typing import Any, Literal

from pydantic import Field
from rich.console import Console

from hf_untangle import models
from hf_untangle.compaction.saving import bytes_of
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.folders import check_replaceable
from hf_untangle.prune import PruneResult, prune
from hf_untangle.prune import plan as plan_removal
from hf_untangle.pruning.plan import PrunePlan
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.reporting.compression import prune_summary, prune_table


class Recipe(ModelOption):
    """A compression job."""

    task: Literal["prune"] = Field(description="What kind of job this is.")
    model: str = Field(description="A Hub id, a folder, or `smollm2`, which needs no network.")
    data: CorpusChoice = Field(
        default=CorpusChoice(source="general"), description="The text by which neurons are judged: its source, or what to read."
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings that differ from the defaults.")
    keep_removed: bool = Field(
        default=False, description="Write what was removed beside the result, so that `restore` can undo it."
    )
    dry_run: bool = Field(default=False, description="Say what would go where, and write nothing.")
    output: str = Field(description="The folder that the result is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Everything that can be checked without the model is checked before the model is loaded.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the result is saved in the recipe's output folder, unless it was a dry run.
    """
    check_replaceable(recipe.output, source=recipe.model)
    config = PruneConfig().with_settings(**recipe.settings)
    data = recipe.data.open()
    model, tokenizer = models.load(recipe.model, **recipe.loading)
    check_replaceable(recipe.output, needs=bytes_of(model))
    chosen = plan_removal(model, data, tokenizer=tokenizer, config=config, progress=progress)
    if recipe.dry_run:
        return Outcome(_planned(chosen), lambda console: console.print(chosen.describe(), highlight=False))
    result = prune(model, chosen, tokenizer=tokenizer, keep_removed=recipe.keep_removed, progress=progress)
    embedded = models.EMBEDDED.get(recipe.model)
    result.save_pretrained(recipe.output, license=embedded.license if embedded else None)
    return Outcome(result.record.model_dump(mode="json"), lambda console: _show(result, recipe.output, console))


def _planned(chosen: PrunePlan) -> dict[str, Any]:
    """A plan as values that JSON can hold."""
    return {
        "model": chosen.mask.model,
        "parameters": chosen.parameters,
        "parameters_removed": chosen.parameters_removed,
        "removed": {name: int((~kept).sum()) for name, kept in chosen.mask.items()},
        "config": chosen.config.model_dump(mode="json"),
    }


def _show(result: PruneResult, output: str, console: Console) -> None:
    """Print the table and where everything is."""
    console.print()
    console.print(prune_table(result.record))
    console.print(prune_summary(result.record), highlight=False)
    console.print(f"Saved in {output}: a checkpoint for from_pretrained, mask.safetensors, untangle.json,")
    console.print(f"and {output}/report.html to look at.")
