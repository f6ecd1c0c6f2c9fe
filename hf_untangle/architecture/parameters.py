"""The one place where the numbers of parameters are read and written, wherever they lie."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hf_untangle.architecture.commit import commit, write_
from hf_untangle.architecture.offload import Home, home_of
from hf_untangle.architecture.projections import Matrix, place_of
from hf_untangle.architecture.quantized import codes_of, dequantized, has_codes, write_codes_, zero_code
from hf_untangle.architecture.sharding import is_shard, write_shard_

Index = tuple[slice | Int[Tensor, " _"], ...]
"""The index of some rows or columns of a parameter."""


@dataclass(frozen=True, eq=False)
class Edit:
    """What some rows or columns of one parameter are to hold."""

    parameter: str
    """Its name in the model."""
    index: Index
    """Where they are."""
    values: Tensor | None = None
    """What is to be there, codes where the parameter holds codes; None for zeros."""


def parameter_names(model: nn.Module) -> list[str]:
    """Name every parameter once, tied ones too: while they are offloaded they have a placeholder each.

    Args:
        model: Any model.

    Returns:
        The names, in the order of the modules.
    """
    tied = getattr(model, "all_tied_weights_keys", {})
    return [name for name, one in model.named_parameters() if not (one.is_meta and name in tied)]


def read_parameter(model: nn.Module, name: str) -> Tensor:
    """Bring the numbers of a parameter.

    Args:
        model: The model.
        name: Name of a parameter or a buffer.

    Returns:
        All of its numbers: the tensor itself where it is in the model, what accelerate would bring, or what all processes
        have together, which all must ask for. Of quantized weights
        the codes, in the shape of the weights.
    """
    tensor = _own(model, name)
    if has_codes(tensor):
        return codes_of(model.get_submodule(name.rpartition(".")[0]))
    if is_shard(tensor):
        return cast(Any, tensor).full_tensor()
    home = home_of(model, name) if tensor.is_meta else None
    return tensor if home is None else home.read()


def read_matrix(model: nn.Module, name: str) -> Matrix:
    """Bring the weights of a projection.

    Args:
        model: The model.
        name: Path of a projection, or of a parameter that holds one matrix per expert.

    Returns:
        The weights, seen as `matrix_of` shows them, but with all of their numbers, and dequantized. They are to be read only.
    """
    place = place_of(model, name)
    is_quantized = has_codes(_own(model, place.weight))
    weight = dequantized(model.get_submodule(name)) if is_quantized else read_parameter(model, place.weight)
    bias = None if place.bias is None else read_parameter(model, place.bias)
    stacked = weight if place.is_stack else weight[None]
    biases = bias if place.is_stack or bias is None else bias[None]
    return Matrix(stacked.transpose(1, 2) if place.is_transposed else stacked, biases, weight, place.is_transposed)


@torch.no_grad()
def write_parameters_(model: nn.Module, edits: Iterable[Edit]) -> None:
    """Write to parameters, wherever they lie: to all of them, or to none when something fails or interrupts.

    Args:
        model: The model, changed in place.
        edits: What to write. Edits of one parameter follow each other.
    """
    by_parameter: dict[str, list[Edit]] = {}
    for edit in edits:
        by_parameter.setdefault(edit.parameter, []).append(edit)
    with ExitStack() as drafts:
        writes = [_prepared(model, name, some, drafts) for name, some in by_parameter.items()]
        with commit() as undo:
            undo.push(drafts.pop_all())
            for write in writes:
                write(undo)


Write = Callable[[ExitStack], None]
"""Writes to one parameter, after it has registered what takes that back."""


def _prepared(model: nn.Module, name: str, edits: list[Edit], drafts: ExitStack) -> Write:
    """Do everything that takes long or is likely to fail, and leave what makes it valid."""
    tensor = _own(model, name)
    if has_codes(tensor):
        return partial(_write_codes, model.get_submodule(name.rpartition(".")[0]), edits)
    if is_shard(tensor):
        return partial(_write_whole, tensor, edits)
    home = home_of(model, name) if tensor.is_meta else None
    if home is None:
        return partial(_write, tensor, edits)
    return partial(_write, home.read(), edits) if home.in_memory() else _drafted(home, edits, drafts)


def _write_codes(projection: nn.Module, edits: list[Edit], undo: ExitStack) -> None:
    """Write to the codes of a quantized projection."""
    codes = codes_of(projection).clone()
    undo.callback(write_codes_, projection, codes.clone())
    _edit(codes, edits, zero_code(projection))
    write_codes_(projection, codes)


def _write_whole(shard: Tensor, edits: list[Edit], undo: ExitStack) -> None:
    """Write to a parameter that is spread over processes, each of which keeps its part."""
    whole = cast(Any, shard).full_tensor().clone()
    local = cast(Any, shard).to_local()
    undo.callback(write_, local, local.detach().clone())
    _edit(whole, edits)
    write_shard_(shard, whole)


def _drafted(home: Home, edits: list[Edit], drafts: ExitStack) -> Write:
    """Write a changed parameter to disk, where nothing reads it yet."""
    tensor = home.read()
    _edit(tensor, edits)
    return home.draft(tensor, drafts)


def _write(tensor: Tensor, edits: list[Edit], undo: ExitStack) -> None:
    """Write to a tensor that is there."""
    for edit in edits:
        undo.callback(_put, tensor, edit.index, tensor[edit.index].clone())
        _edit(tensor, [edit])


def _edit(tensor: Tensor, edits: list[Edit], zero: int = 0) -> None:
    """Make some edits of a tensor."""
    for edit in edits:
        tensor[edit.index] = zero if edit.values is None else edit.values.to(tensor)


@torch.no_grad()
def _put(tensor: Tensor, index: Index, values: Tensor) -> None:
    """Give some entries of a tensor their values back."""
    tensor[index] = values


def _own(model: nn.Module, name: str) -> Tensor:
    """What the model itself holds under a name."""
    path, _, own = name.rpartition(".")
    return getattr(model.get_submodule(path), own)
