"""Collect: load a model, sum up what its neurons do on a corpus, write the statistics."""

from typing import Literal

from pydantic import Field
from rich.console import Console

from hf_untangle import models
from hf_untangle.config import BatchSizeSetting
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.corpora import Part
from hf_untangle.data.understood import announce
from hf_untangle.distributed import in_main
from hf_untangle.folders import check_file
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.statistics.collect import collect


class Recipe(ModelOption):
    """A collection of statistics."""

    task: Literal["collect"] = Field(description="What kind of job this is.")
    model: str = Field(description="A Hub id, a folder, or `smollm2`, which needs no network.")
    corpus: CorpusChoice = Field(description="The text: its source alone, or what to read of it.")
    part: Part = Field(default="train", description="Which part of the corpus.")
    tokens: int = Field(default=32_768, ge=1, description="Tokens to read at the most, in whole blocks.")
    block_size: int = Field(default=256, ge=2, description="Tokens in a block.")
    batch_size: BatchSizeSetting = Field(
        default="auto", description="Blocks in a forward pass; `auto` halves them when memory runs out."
    )
    max_seconds: float | None = Field(
        default=None, gt=0, description="Begin no batch after so many seconds; what was read until then counts."
    )
    checkpoint_every: int | None = Field(
        default=256, ge=1, description="Write the sums down every so many blocks, to resume after a stop; never when null."
    )
    roots: bool = Field(default=False, description="Sum sqrt|z| too, for the importance `sqrt`.")
    output: str = Field(description="The safetensors file to write.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show a progress bar.

    Returns:
        What was read, as the file records it.
    """
    check_file(recipe.output)
    corpus = recipe.corpus.open()
    model, tokenizer = models.load(recipe.model, **recipe.loading)
    blocks = token_blocks(
        corpus, tokenizer, tokens=recipe.tokens, part=recipe.part, block_size=min(recipe.block_size, recipe.tokens)
    )
    announce(f"{blocks.corpus.name}: {blocks.understood}", progress=progress)
    statistics = collect(
        model,
        blocks,
        batch_size=recipe.batch_size,
        roots=recipe.roots,
        max_seconds=recipe.max_seconds,
        checkpoint_every=recipe.checkpoint_every,
        progress=progress,
    )
    in_main(lambda: statistics.save(recipe.output))
    (record,) = statistics.corpora

    def show(console: Console) -> None:
        console.print(f"Statistics of {statistics.tokens:,} tokens of {record['source']} are in {recipe.output}.")

    return Outcome(record, show)
