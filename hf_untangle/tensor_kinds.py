"""What an annotation says of a tensor: the kind of its numbers, its dimensions, and which sizes are the same."""

from collections.abc import Mapping
from typing import Any

import torch

NUMBERS = {
    "Bool": ("True and False", "bool"),
    "Float": ("floating-point numbers", "float"),
    "Int": ("signed whole numbers", "long"),
}
"""What the numbers of an annotation are called, and the method that makes a tensor of them."""


def is_tensor_kind(kind: Any) -> bool:
    """Tell whether an annotation is one of jaxtyping, such as `Float[Tensor, "token neuron"]`.

    Args:
        kind: An annotation.

    Returns:
        Whether it is.
    """
    return hasattr(kind, "array_type")


def tensor_fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is a tensor of such numbers in so many dimensions, of which those that are stated have their sizes.

    Args:
        value: Any value.
        kind: An annotation of jaxtyping.

    Returns:
        Whether it fits.
    """
    if kind.array_type is Any:
        return True
    return isinstance(value, kind.array_type) and _has_numbers(value, kind) and _has_dimensions(value, kind)


def sizes_of(value: Any, kind: Any) -> dict[str, int]:
    """Read the sizes off a tensor that the annotation has names for.

    Args:
        value: A tensor that fits.
        kind: An annotation of jaxtyping.

    Returns:
        A size by name; those that may be 1 instead, and those around a part that may be of any length, are left out.
    """
    names = _dimensions(kind)
    if any(map(_is_any_length, names)):
        return {}
    return {name: size for name, size in zip(names, value.shape, strict=True) if name.isidentifier() and name != "_"}


def other_size(value: Any, kind: Any, known: Mapping[str, tuple[str, int]]) -> tuple[str, str, int] | None:
    """Find a size of a tensor that other tensors of the same call have otherwise.

    Args:
        value: A tensor that fits.
        kind: An annotation of jaxtyping.
        known: The argument that a named size was first seen in, and the size.

    Returns:
        The name of the size, the other argument and its size; None where all agree.
    """
    sizes = sizes_of(value, kind)
    return next(((name, *known[name]) for name, size in sizes.items() if name in known and known[name][1] != size), None)


def holds_nan(value: Any, kind: Any) -> bool:
    """Tell whether a tensor of numbers has one that is none.

    Args:
        value: Any value.
        kind: An annotation of jaxtyping.

    Returns:
        Whether a value is NaN; False on a device without data, and where a graph is traced, which has no data either.
    """
    traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
    return kind.__name__.startswith("Float[") and not value.is_meta and not traced and bool(value.isnan().any())


def tensor_in_words(kind: Any) -> str:
    """Say what a tensor must be.

    Args:
        kind: An annotation of jaxtyping.

    Returns:
        Such as `a tensor of True and False [neuron]`.
    """
    numbers = NUMBERS.get(kind.__name__.partition("[")[0], ("",))[0] or " or ".join(map(str, kind.dtypes[:1]))
    return f"a tensor of {numbers}{_shape_in_words(_dimensions(kind))}"


def tensor_as_given(value: Any, kind: Any) -> str:
    """Say what a tensor is, and what makes it fit where that is one method.

    Args:
        value: A tensor.
        kind: What it should have been.

    Returns:
        Such as `a tensor of int64 [2] (make it one with `.bool()`)`.
    """
    given = f"a tensor of {_dtype(value)} [{', '.join(map(str, value.shape))}]"
    method = NUMBERS.get(kind.__name__.partition("[")[0], ("", ""))[1] if is_tensor_kind(kind) else ""
    helps = method and not value.is_complex() and not _has_numbers(value, kind) and _has_dimensions(value, kind)
    return f"{given} (make it one with `.{method}()`)" if helps else given


def _dtype(value: Any) -> str:
    """The name of a tensor's dtype."""
    return str(value.dtype).rpartition(".")[2]


def _dimensions(kind: Any) -> list[str]:
    """The dimensions of an annotation, by name."""
    return kind.dim_str.split()


def _is_any_length(name: str) -> bool:
    """Tell whether any number of dimensions may stand for one of an annotation."""
    return name.startswith("*") or name == "..."


def _has_numbers(value: Any, kind: Any) -> bool:
    """Tell whether the dtype of a tensor is one of those of an annotation."""
    return not isinstance(kind.dtypes, tuple | list) or _dtype(value) in kind.dtypes


def _has_dimensions(value: Any, kind: Any) -> bool:
    """Tell whether a tensor has as many dimensions as an annotation, and the sizes that it states."""
    names = _dimensions(kind)
    fixed = [name for name in names if not _is_any_length(name)]
    if len(fixed) < len(names):
        return value.ndim >= len(fixed)
    return value.ndim == len(names) and all(
        not name.isdigit() or size == int(name) for name, size in zip(names, value.shape, strict=True)
    )


def _shape_in_words(names: list[str]) -> str:
    """Say the dimensions of an annotation: nothing where any will do."""
    if names == ["..."]:
        return ""
    if not names:
        return ", a single one"
    said = ("any" if name == "_" else name.lstrip("#*") for name in names)
    return f" [{', '.join(said)}]"
