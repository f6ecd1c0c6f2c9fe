"""Hidden size: load a model, make its residual stream narrower, save it with what that cost."""

from typing import Any, Literal

from pydantic import Field
from rich.console import Console

from hf_untangle import models
from hf_untangle.compaction.hidden_basis import Basis
from hf_untangle.compaction.hidden_size import cut_hidden_size
from hf_untangle.compaction.residual_stream import width_of
from hf_untangle.compaction.saving import bytes_of, save_model
from hf_untangle.data.batches import token_blocks
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.folders import check_replaceable, whole_folder
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome


class Recipe(ModelOption):
    """A job that makes the residual stream of a model narrower."""

    task: Literal["hidden-size"] = Field(description="What kind of job this is.")
    model: str = Field(description="A Hub id, a folder, or `smollm2`, which needs no network.")
    size: int = Field(ge=1, description="The hidden size that is wanted; multiples of 64 or 128 are fast.")
    basis: Basis = Field(
        default="rotation",
        description="What stays: principal components (`rotation`), or the channels that hold most, as they are (`channels`).",
    )
    data: CorpusChoice = Field(
        default=CorpusChoice(source="general"),
        description="The text by which that is chosen, and that what reads the stream is refitted on.",
    )
    tokens: int = Field(default=16_384, ge=1, description="How many tokens of the text are read.")
    block_size: int = Field(default=256, ge=2, description="Tokens in a block.")
    evaluation_tokens: int = Field(default=8_192, ge=1, description="Held-out tokens that the result is measured on.")
    output: str = Field(description="The folder that the checkpoint is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the checkpoint is in the recipe's output folder.
    """
    check_replaceable(recipe.output, source=recipe.model)
    data = recipe.data.open()
    model, tokenizer = models.load(recipe.model, **recipe.loading)
    test = token_blocks(data, tokenizer, tokens=recipe.evaluation_tokens, part="test", block_size=recipe.block_size)
    how = {"tokenizer": tokenizer, "tokens": recipe.tokens, "block_size": recipe.block_size, "progress": progress}
    small = cut_hidden_size(model, data, size=recipe.size, basis=recipe.basis, **how)
    before, after = (next_token_metrics(one, test, progress=progress) for one in (model, small))
    check_replaceable(recipe.output, needs=bytes_of(small))
    with whole_folder(recipe.output) as draft:
        save_model(small, draft, None)
        tokenizer.save_pretrained(draft)
    record: dict[str, Any] = {
        "model": recipe.model,
        "hidden_size_before": width_of(model),
        "hidden_size_after": recipe.size,
        "basis": recipe.basis,
        "parameters_before": model.num_parameters(),
        "parameters_after": small.num_parameters(),
        "perplexity_before": before.perplexity,
        "perplexity_after": after.perplexity,
        "evaluation_tokens": test.tokens,
        "output": recipe.output,
    }
    return Outcome(record, lambda console: _show(record, console))


def _show(record: dict[str, Any], console: Console) -> None:
    """Print what became smaller, and what it cost."""
    share = record["parameters_after"] / record["parameters_before"]
    console.print(f"A hidden size of {record['hidden_size_before']:,} became {record['hidden_size_after']:,}.")
    console.print(f"{record['parameters_before']:,} parameters became {record['parameters_after']:,} ({share:.1%}).")
    console.print(
        f"Perplexity on {record['evaluation_tokens']:,} held-out tokens: {record['perplexity_before']:.1f} became "
        f"{record['perplexity_after']:.1f}."
    )
    console.print(f"Saved in {record['output']}: from_pretrained loads it anywhere.")
