"""Parameters that accelerate keeps elsewhere, in memory or on disk, and brings only while their module runs.

In the model they are placeholders on the meta device. Where their numbers lie is what the hook of their module knows: a
dictionary of tensors, or a loader that reads files.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hf_untangle.errors import ArchitectureError

FOLDER = "hf_untangle_folder"
"""The attribute of a loader that names the folder of the tensors that were changed."""


@dataclass(frozen=True, eq=False)
class Home:
    """Where the numbers of an offloaded parameter lie."""

    source: Any
    """A dictionary of tensors, or accelerate's `OffloadedWeightsLoader`."""
    key: str
    """The parameter's name there."""

    def read(self) -> Tensor:
        """Bring the numbers.

        Returns:
            On the CPU: the tensor itself where it lies in memory, a copy where it lies on disk.
        """
        return self.source[self.key]

    def in_memory(self) -> bool:
        """Tell whether the numbers lie in memory, so that writing to what `read` gives changes the model."""
        return isinstance(self.source, MutableMapping) or self.key in self.source.state_dict

    def draft(self, tensor: Tensor, drafts: ExitStack) -> Callable[[ExitStack], None]:
        """Write new numbers to disk, beside the old ones, which are never written to: they may be the user's checkpoint.

        Args:
            tensor: The new numbers.
            drafts: Where the removal of the file is registered.

        Returns:
            What makes the model read the file, called with a stack for what makes it read the old numbers again.
        """
        file = _folder_of(self.source) / f"{uuid4().hex}.safetensors"
        drafts.callback(file.unlink, missing_ok=True)
        save_file({self.key: tensor.contiguous()}, file)
        entry = {"safetensors_file": str(file), "weight_name": self.key, "dtype": str(tensor.dtype).removeprefix("torch.")}
        return partial(self._read_from, entry)

    def _read_from(self, entry: dict[str, str], undo: ExitStack) -> None:
        """Let the model read another file."""
        undo.callback(self.source.index.__setitem__, self.key, self.source.index[self.key])
        self.source.index[self.key] = entry


def home_of(model: nn.Module, name: str) -> Home | None:
    """Find where the numbers of a parameter lie while its module does not run.

    Args:
        model: The model.
        name: Name of a parameter or a buffer.

    Returns:
        The place; None where nothing was offloaded.
    """
    path, _, key = name.rpartition(".")
    while True:
        for hook in _hooks_of(model.get_submodule(path)):
            if getattr(hook, "offload", False) and hook.weights_map is not None:
                return _inside(hook.weights_map, key)
        if not path:
            return None
        path, _, outer = path.rpartition(".")
        key = f"{outer}.{key}"


def is_offloaded(model: nn.Module) -> bool:
    """Tell whether some parameters are elsewhere while a model does not run.

    Args:
        model: Any model.

    Returns:
        True when a hook of accelerate brings them.
    """
    return any(getattr(hook, "offload", False) for module in model.modules() for hook in _hooks_of(module))


def check_loaded(model: nn.Module) -> None:
    """Refuse a model that has no weights.

    Args:
        model: Any model.

    Raises:
        ArchitectureError: A parameter is on the meta device, and no hook knows where its numbers are.
    """
    empty = next((name for name, one in model.named_parameters() if one.is_meta and home_of(model, name) is None), None)
    if empty is not None:
        raise ArchitectureError(
            f"The model must have its weights loaded, but `{empty}` is on the meta device, and was not offloaded by "
            "accelerate. Load it with `from_pretrained`, or call `to_empty` and `load_state_dict` first."
        )


def input_device(model: nn.Module) -> torch.device:
    """Find where a model wants its inputs: where its first parameter is, or is brought to.

    Args:
        model: Any model with parameters.

    Returns:
        The device.
    """
    device = next(model.parameters()).device
    if device.type != "meta":
        return device
    brought = (
        hook.execution_device for module in model.modules() for hook in _hooks_of(module) if getattr(hook, "offload", False)
    )
    return torch.device(next(brought, "meta"))


def _hooks_of(module: nn.Module) -> Iterator[Any]:
    """The hooks that accelerate has put on a module."""
    hook = getattr(module, "_hf_hook", None)
    yield from getattr(hook, "hooks", () if hook is None else (hook,))


def _inside(source: Any, key: str) -> Home:
    """Look through the views that show each module its own part of a source."""
    while hasattr(source, "prefix"):
        source, key = source.dataset, f"{source.prefix}{key}"
    return Home(source, key)


def _folder_of(loader: Any) -> Path:
    """The folder of changed tensors, on the disk that the caller chose to offload to; it goes with the loader."""
    if not hasattr(loader, FOLDER):
        folder = tempfile.mkdtemp(prefix="hf_untangle-", dir=loader.save_folder)
        weakref.finalize(loader, shutil.rmtree, folder, ignore_errors=True)
        setattr(loader, FOLDER, folder)
    return Path(getattr(loader, FOLDER))
