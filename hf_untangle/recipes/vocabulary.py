"""Vocabulary: load a model, take the tokens out that a text does not need, save what is left."""

from typing import Any, Literal

from pydantic import Field
from rich.console import Console

from hf_untangle import models
from hf_untangle.compaction.saving import bytes_of, save_model
from hf_untangle.compaction.vocabulary import SmallerVocabulary, cut_vocabulary
from hf_untangle.folders import check_replaceable, whole_folder
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome


class Recipe(ModelOption):
    """A job that cuts a vocabulary."""

    task: Literal["vocabulary"] = Field(description="What kind of job this is.")
    model: str = Field(description="A Hub id, a folder, or `smollm2`, which needs no network.")
    data: CorpusChoice = Field(
        default=CorpusChoice(source="general"), description="The text that is to take as few tokens as before."
    )
    tokens: int = Field(default=1_000_000, ge=1, description="How many tokens of the text are read at the most.")
    size: int | None = Field(default=None, ge=1, description="The largest number of tokens that may stay.")
    output: str = Field(description="The folder that the checkpoint is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:  # noqa: ARG001 (reading a text needs no bar)
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: The text is read without a progress bar.

    Returns:
        What came of it; the checkpoint is in the recipe's output folder.
    """
    check_replaceable(recipe.output, source=recipe.model)
    data = recipe.data.open()
    model, tokenizer = models.load(recipe.model, **recipe.loading)
    small = cut_vocabulary(model, data, tokenizer=tokenizer, tokens=recipe.tokens, size=recipe.size)
    check_replaceable(recipe.output, needs=bytes_of(small.model))
    with whole_folder(recipe.output) as draft:
        save_model(small.model, draft, None)
        small.tokenizer.save_pretrained(draft)
    record: dict[str, Any] = {
        "model": recipe.model,
        "tokens_before": len(tokenizer),
        "tokens_after": len(small.old_ids),
        "parameters_before": model.num_parameters(),
        "parameters_after": small.model.num_parameters(),
        "output": recipe.output,
    }
    return Outcome(record, lambda console: _show(record, small, console))


def _show(record: dict[str, Any], small: SmallerVocabulary, console: Console) -> None:
    """Print what became smaller."""
    share = record["parameters_after"] / record["parameters_before"]
    console.print(f"{record['tokens_before']:,} tokens became {record['tokens_after']:,}.")
    console.print(f"{record['parameters_before']:,} parameters became {small.model.num_parameters():,} ({share:.1%}).")
    console.print(f"Saved in {record['output']}: from_pretrained loads model and tokenizer anywhere.")
