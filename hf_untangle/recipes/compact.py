"""Compact: take removed neurons out of a checkpoint, from folder to folder."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from hf_untangle.compaction.folder_to_folder import FolderRecord, compact_folder
from hf_untangle.compaction.target_widths import Layout
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.recipes.copy_result import carry_result
from hf_untangle.recipes.plan import Outcome


class Compaction(BaseModel):
    """How small to make a checkpoint, and where to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Layout = Field(
        default="uniform",
        description="`uniform`: all layers of a kind become as wide as the widest, and the checkpoint loads anywhere. "
        "`ragged`: each layer becomes as narrow as it can be, and the checkpoint loads once hf_untangle is imported.",
    )
    round_to: int | None = Field(
        default=None,
        ge=1,
        description="Round FFN widths up to a multiple of this, such as 64, which is fast; not at all when left out.",
    )
    output: str = Field(description="The folder that the smaller checkpoint is written to.")

    def compact(self, source: str, mask: str | None = None) -> FolderRecord:
        """Take removed neurons out of a checkpoint; where that is a result of unlearning, all of it goes along.

        Args:
            source: A folder with a checkpoint in safetensors, in full precision.
            mask: A mask file; where there is none, removed neurons are read off the weights.

        Returns:
            What was done.
        """
        kept = None if mask is None else NeuronMask.load(mask)
        complete = None if mask is not None else partial(carry_result, Path(source), round_to=self.round_to)
        return compact_folder(source, self.output, kept, layout=self.layout, round_to=self.round_to, complete=complete)


class Recipe(Compaction):
    """A compaction job."""

    task: Literal["compact"] = Field(description="What kind of job this is.")
    source: str = Field(
        description="The checkpoint to make smaller, such as the folder of a result: in safetensors, not quantized. It stays."
    )
    mask: str | None = Field(
        default=None, description="A mask file; when left out, neurons whose weights are zero are taken out."
    )


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:  # noqa: ARG001 (a shard at a time needs no bar)
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Shards are written without a progress bar.

    Returns:
        What came of it; the checkpoint is in the recipe's output folder.
    """
    record = recipe.compact(recipe.source, recipe.mask)
    return Outcome(asdict(record), lambda console: show_compaction(record, recipe.output, console))


def show_compaction(record: FolderRecord, output: str, console: Console) -> None:
    """Print what became smaller, and what did not.

    Args:
        record: What was done.
        output: The folder that was written.
        console: Where to print.
    """
    share = record.parameters_after / record.parameters_before
    console.print(f"{record.parameters_before:,} parameters became {record.parameters_after:,} ({share:.1%}).")
    for pattern, reason in record.left.items():
        console.print(f"Removed neurons of {pattern} stay as zeros: {reason}.")
    how = (
        "from_pretrained loads it once hf_untangle is imported" if record.needs_package else "from_pretrained loads it anywhere"
    )
    console.print(f"Saved in {output}: {how}.")
