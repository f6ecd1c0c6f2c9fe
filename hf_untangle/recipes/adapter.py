"""Adapter: write a mask, or one or all steps of a result, as stock peft adapters."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from hf_untangle.errors import MaskError
from hf_untangle.folders import check_replaceable, recover, whole_folder
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.mask_path import MASK_PATH, load_mask_path
from hf_untangle.recipes.plan import Outcome
from hf_untangle.records.saved import read_run_record
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.adapter_path import write_adapter_path


class Recipe(BaseModel):
    """A job that makes adapters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["adapter"] = Field(description="What kind of job this is.")
    source: str = Field(description="A mask file, or the folder of a result.")
    step: int | None = Field(default=None, ge=1, description="The step of the result; its chosen one when left out.")
    all_steps: bool = Field(default=False, description="Whether to write every step, each into a folder of its own.")
    output: str = Field(description="The folder that the adapter, or the folder of one adapter per step, is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Ignored, as this takes a moment.

    Returns:
        What came of it; the adapters are in the recipe's output folder.

    Raises:
        MaskError: There is no mask, no result, or no such step.
        OutputError: The output is not ours to replace, or cannot be written.
    """
    source, output = Path(recipe.source), Path(recipe.output)
    check_replaceable(output, source=source)
    recover(source)
    if recipe.all_steps:
        masks = _write_all_steps(source, output)
    else:
        masks = (_chosen(source, recipe.step),)
        masks[0].to_adapter(output)
    rows = [{"model": mask.model, "removed": mask.removed(), "neurons": mask.neurons()} for mask in masks]
    return Outcome({"output": recipe.output, "adapters": rows}, lambda console: _show(masks, output, console))


def _chosen(source: Path, step: int | None) -> NeuronMask:
    """The mask of a file, of a result, or of one of its steps."""
    if step is None:
        return NeuronMask.from_pretrained(source) if source.is_dir() else NeuronMask.load(source)
    masks = load_mask_path(source / MASK_PATH)
    if step > len(masks):
        raise MaskError(f"The step must be one of the result's, from 1 to {len(masks)}, got {step}.")
    return masks[step - 1]


def _write_all_steps(source: Path, output: Path) -> tuple[NeuronMask, ...]:
    """Write every step of a saved result."""
    masks = load_mask_path(source / MASK_PATH)
    record = read_run_record(source, UnlearnRecord)
    with whole_folder(output) as draft:
        write_adapter_path(draft, record, masks, output.name)
    return masks


def _show(masks: tuple[NeuronMask, ...], output: Path, console: Console) -> None:
    """Print what each adapter does and where it is."""
    for mask in masks:
        console.print(mask.describe())
    console.print(f"Saved in {output}, for PeftModel.from_pretrained, without hf_untangle. An adapter hides, it does")
    console.print("not remove: the original model works without it.")
