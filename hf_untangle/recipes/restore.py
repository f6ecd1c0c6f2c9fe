"""Restore: undo a saved result, from the removed weights that were kept beside it."""

import json
import shutil
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from rich.console import Console
from transformers import PreTrainedModel

from hf_untangle.by_name import opened
from hf_untangle.compaction.folder_to_folder import CARRIED
from hf_untangle.compaction.saving import bytes_of, save_model
from hf_untangle.errors import ConfigError
from hf_untangle.files.names import own_files, public_name
from hf_untangle.folders import MARKER, check_replaceable, whole_folder
from hf_untangle.hub.upload import REMOVED
from hf_untangle.recipes.model_option import FolderOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.results.base import restore
from hf_untangle.statistics.fingerprint import weights_fingerprint


class Recipe(FolderOption):
    """A restoration of the model that a result was made from."""

    task: Literal["restore"] = Field(description="What kind of job this is.")
    folder: str = Field(description=f"The folder of a result that was saved with its {REMOVED} (`keep_removed`).")
    output: str | None = Field(default=None, description="The folder that the restored checkpoint is written to.")
    in_place: bool = Field(
        default=False, description="Write it into the folder itself, instead of the result, which is gone then."
    )

    @model_validator(mode="after")
    def _one_place(self) -> "Recipe":
        """Refuse a job that says neither, or both, of where to write."""
        if (self.output is None) != self.in_place:
            raise ValueError("name either an `output` or `in_place`, which replaces the result by the restored checkpoint")
        return self

    @property
    def target(self) -> str:
        """The folder to write."""
        return self.output or self.folder


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Ignored, as this takes a moment.

    Returns:
        What came of it; the checkpoint is as it was before the run, bit for bit.

    Raises:
        ConfigError: There is no such folder.
        MaskError: The removed weights were not kept, or the checkpoint is not as the removal left it; nothing is written then.
        OutputError: The output is not ours to replace, or cannot be written.
    """
    source = Path(recipe.folder)
    if not source.is_dir():
        raise ConfigError(f"What is restored must be a folder that a result was saved in, but there is none at `{source}`.")
    check_replaceable(recipe.target, source=None if recipe.in_place else source)
    how = {"device_map": recipe.device_map, "trust_remote_code": recipe.trust_remote_code}
    model = restore(opened(source, dtype="checkpoint", **how), source)
    check_replaceable(recipe.target, needs=bytes_of(model))
    record = {"restored": public_name(str(source)), "weights": weights_fingerprint(model), "parameters": model.num_parameters()}
    _write(model, source, Path(recipe.target), record)
    return Outcome(record | {"output": recipe.target}, lambda console: _show(recipe, console))


def _write(model: PreTrainedModel, source: Path, target: Path, record: dict[str, object]) -> None:
    """Write an ordinary checkpoint, with the tokenizer of the result."""
    with whole_folder(target) as draft:
        save_model(model, draft)
        for file in own_files(source, CARRIED):
            if not (draft / file.name).exists():
                shutil.copy2(file, draft)
        (draft / MARKER).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _show(recipe: Recipe, console: Console) -> None:
    """Print where the restored model is."""
    console.print(f"Every removed weight is back, bit for bit: {recipe.target} is the model before the run.")
    if recipe.in_place:
        console.print("The result that was there, with its mask, its record and its card, is gone.")
    else:
        console.print(f"The result in {recipe.folder} is as it was.")
