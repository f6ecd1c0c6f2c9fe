"""A checkpoint folder: its configuration and its shards, checked before anything is read or written."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import transformers
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping

from hf_untangle.architecture.meta_models import shapes_of
from hf_untangle.compaction.parts import Part, part_of
from hf_untangle.errors import ArchitectureError, CheckpointError
from hf_untangle.files.header import read_header
from hf_untangle.files.json_text import read_json
from hf_untangle.files.names import member
from hf_untangle.files.regular import Expected, one_line, open_regular, shown
from hf_untangle.ragged import enable_ragged_checkpoints

COUNT = re.compile(r"layers?$|blocks?$|experts$|depth$")
"""Settings that say how many modules there are."""
FEW = 512
"""Modules that need no tensors to be believed: experts can have their weights in one."""
INDEX, SINGLE, CONFIG = "model.safetensors.index.json", "model.safetensors", "config.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A folder that `save_pretrained` has written, in safetensors."""

    folder: Path
    shards: dict[str, tuple[str, ...]]
    """The names of the tensors in each file."""

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum((self.folder / file).stat().st_size for file in self.shards)

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The configuration of the model."""
        try:
            enable_ragged_checkpoints()
            return AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except Exception as error:  # What a configuration does with settings of a wrong kind is up to its class.
            raise ArchitectureError(f"`{self.folder}` must hold the configuration of a model, got {one_line(error)}") from error

    @cached_property
    def model_class(self) -> type[PreTrainedModel]:
        """The class that the checkpoint was saved from, or that of causal language models where it does not say."""
        stated = self.config.architectures
        names = stated if isinstance(stated, list) else []
        classes = [getattr(transformers, name, None) for name in names if isinstance(name, str)]
        known = [one for one in classes if isinstance(one, type) and issubclass(one, PreTrainedModel)]
        try:
            return known[0] if known else cast(type[PreTrainedModel], AutoModelForCausalLM._model_mapping[type(self.config)])
        except KeyError as error:
            raise ArchitectureError(
                f"`{self.folder}` must hold a causal language model, got {self.config.model_type}."
            ) from error

    def read(self, file: str, name: str) -> Tensor:
        """Read one tensor; its bytes stay on the disk until they are used.

        Args:
            file: The name of its shard.
            name: Its name there.

        Returns:
            The tensor.
        """
        with safe_open(self.folder / file, framework="pt") as shard:
            return shard.get_tensor(name)


def parts_in(checkpoint: Checkpoint, model: PreTrainedModel) -> dict[str, Part]:
    """Find which parameter of the model each tensor of a checkpoint is, or which part of one.

    Args:
        checkpoint: The checkpoint.
        model: Its model, of which only names and shapes matter.

    Returns:
        Parts by names in the checkpoint. Left out are tensors that the model ignores, and those that are put together with
        others, when they are loaded, in a way that is not understood.

    Raises:
        CheckpointError: A tensor does not belong to the model, or has another shape.
    """
    shapes = {name: tuple(buffer.shape) for name, buffer in model.state_dict().items()} | shapes_of(model)
    changes = get_model_conversion_mapping(model)
    ignored = [re.compile(pattern) for pattern in (*(model._keys_to_ignore_on_load_unexpected or ()), r"\.inv_freq$")]
    found: dict[str, Part] = {}
    for file, names in checkpoint.shards.items():
        for name in names:
            part = part_of(name, changes, model.base_model_prefix, shapes)
            if part is not None and part.parameter in shapes:
                found[name] = part
            elif part is not None and not any(pattern.search(name) for pattern in ignored):
                raise CheckpointError(
                    f"Every tensor of a checkpoint must be a parameter of its {type(model).__name__}, but `{name}` in "
                    f"`{checkpoint.folder / file}` is none. Load the model and use `compact(model, mask)` instead."
                )
    _check_shapes(checkpoint, found)
    return found


def _check_shapes(checkpoint: Checkpoint, parts: dict[str, Part]) -> None:
    """Refuse tensors that are not what the configuration says."""
    for file, tensors in checkpoint.shards.items():
        with safe_open(checkpoint.folder / file, framework="pt") as shard:
            for name in parts.keys() & set(tensors):
                shape, stated = tuple(shard.get_slice(name).get_shape()), parts[name].shape
                if shape != stated:
                    raise CheckpointError(
                        f"The tensor `{name}` in `{checkpoint.folder / file}` must have the shape {list(stated)} that "
                        f"{CONFIG} states, but it has {list(shape)}. Is the configuration this checkpoint's own?"
                    )


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """Look at a checkpoint folder, and check that all of it is there.

    Args:
        folder: A folder that `save_pretrained` has written.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: A file or a tensor is missing, or the weights are quantized.
    """
    path = Path(folder)
    if not member(path, CONFIG, "the checkpoint").is_file():
        raise CheckpointError(f"`{folder}` must be a folder with a checkpoint, but it has no {CONFIG}.")
    config = read_json(Expected(path / CONFIG, "the configuration of a model", CheckpointError))
    if not isinstance(config, dict):
        raise CheckpointError(f"`{path / CONFIG}` must hold the settings of a model, got a {type(config).__name__}.")
    if "quantization_config" in config:
        raise CheckpointError(
            f"The weights in `{folder}` must be in full precision to be cut, but they are quantized. Calibrate on the "
            "quantized model, save the mask, and cut the full-precision checkpoint."
        )
    checkpoint = Checkpoint(path, _shards(path))
    _check_counts(config, sum(map(len, checkpoint.shards.values())), path)
    return checkpoint


def _check_counts(config: dict[str, Any], tensors: int, folder: Path) -> None:
    """Refuse a configuration of many more modules than there are tensors, before a model of it is made."""
    for name, value in config.items():
        if isinstance(value, dict):
            _check_counts(value, tensors, folder)
        elif COUNT.search(name) and isinstance(value, int) and value > max(tensors, FEW):
            raise CheckpointError(
                f"The configuration in `{folder}` must fit its {tensors} tensors, got {shown(name)} of {value:.3g}. Is it this "
                "checkpoint's own?"
            )


def _shards(folder: Path) -> dict[str, tuple[str, ...]]:
    """The names of the tensors in each file of a checkpoint."""
    if member(folder, INDEX, "the checkpoint").is_file():
        promised: dict[str, list[str]] = {}
        for name, file in _weight_map(folder).items():
            promised.setdefault(member(folder, file, INDEX).name, []).append(name)
    elif (folder / SINGLE).is_file():
        promised = {SINGLE: []}
    else:
        raise CheckpointError(
            f"`{folder}` must hold {SINGLE} or {INDEX}, but it has neither. Weights in another format are converted by loading "
            "the model and calling `save_pretrained`; without an index, shards are not read."
        )
    return {file: _tensors_in(folder, file, names) for file, names in promised.items()}


def _weight_map(folder: Path) -> dict[str, object]:
    """The file of each tensor, as the index states it."""
    index = read_json(Expected(folder / INDEX, "the index of a checkpoint", CheckpointError))
    stated = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(stated, dict):
        raise CheckpointError(f"`{INDEX}` in `{folder}` must map tensors to files under `weight_map`. Download it again.")
    return stated


def _tensors_in(folder: Path, file: str, promised: list[str]) -> tuple[str, ...]:
    """The names of the tensors in one file, among which must be those that the index promises."""
    path = folder / file
    if path.suffix != ".safetensors":
        raise CheckpointError(f"The index of `{folder}` must name `.safetensors` files, got `{file}`. Download it again.")
    if not path.is_file():
        raise CheckpointError(f"The index of `{folder}` names the shard `{file}`, but it is missing. Download it again.")
    expected = Expected(path, "a shard of a checkpoint", CheckpointError)
    with open_regular(expected) as (shard, size):
        names = tuple(read_header(shard, size, expected).entries)
    if missing := set(promised) - set(names):
        raise CheckpointError(
            f"The index of `{folder}` says that {shown(min(missing))} is in `{file}`, but it is not. Download both again."
        )
    return names
