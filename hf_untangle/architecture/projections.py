"""Linear projections: `nn.Linear`, `Conv1D`, which is the same with its weight transposed, and all experts' in one tensor."""

from dataclasses import dataclass
from typing import cast

from jaxtyping import Shaped
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def is_projection(module: nn.Module) -> bool:
    """Tell whether a module is a linear projection, quantized ones included.

    Args:
        module: Any module.

    Returns:
        True for a projection.
    """
    return isinstance(module, nn.Linear | Conv1D)


def projects(module: nn.Module) -> bool:
    """Tell whether a module is a linear projection, or a layer of a peft adapter that stands instead of one.

    Args:
        module: Any module.

    Returns:
        True for both.
    """
    return is_projection(module) or is_projection(getattr(module, "base_layer", module))


def weight_of(projection: nn.Module) -> Tensor:
    """The weight, of shape [output, input], or [input, output] for `Conv1D`.

    Args:
        projection: A linear projection.

    Returns:
        The parameter itself.
    """
    return cast(Tensor, projection.weight)


def bias_of(projection: nn.Module) -> Tensor | None:
    """The bias, one number an output row; None where there is none.

    Args:
        projection: A linear projection.

    Returns:
        The parameter itself, or None.
    """
    return cast(Tensor | None, getattr(projection, "bias", None))


def input_axis(projection: nn.Module) -> int:
    """The axis of the weight that runs over inputs; the other one runs over outputs.

    Args:
        projection: A linear projection, with an adapter of peft or without.

    Returns:
        0 or 1.
    """
    # An adapter of peft hands the weight of the projection below it out as its own.
    return 0 if isinstance(getattr(projection, "base_layer", projection), Conv1D) else 1


def input_width(projection: nn.Module) -> int:
    """How many neurons a projection reads; quantized weights may be packed, so their shape does not tell.

    Args:
        projection: A linear projection.

    Returns:
        The number of inputs.
    """
    return projection.weight.shape[0] if isinstance(projection, Conv1D) else cast(int, projection.in_features)


def output_width(projection: nn.Module) -> int:
    """How many rows a projection writes.

    Args:
        projection: A linear projection.

    Returns:
        The number of outputs.
    """
    return projection.weight.shape[1] if isinstance(projection, Conv1D) else cast(int, projection.out_features)


@dataclass(frozen=True, eq=False)
class Matrix:
    """The weights of a projection, always seen the same way: views, so that writing to them writes to the model."""

    weight: Shaped[Tensor, "expert output input"]
    """One matrix per expert; a single one for an ordinary projection."""
    bias: Shaped[Tensor, "expert output"] | None
    parameter: Tensor
    """The parameter that holds the weight."""
    transposed: bool
    """Whether the parameter of the weight has inputs before outputs."""


def matrix_of(model: nn.Module, name: str) -> Matrix:
    """Find the weights of a projection by its path.

    Args:
        model: The model.
        name: Path of a projection, or of a parameter that holds one matrix per expert.

    Returns:
        Its weights.
    """
    parent = model.get_submodule(name.rpartition(".")[0])
    found = getattr(parent, name.rpartition(".")[2])
    if isinstance(found, nn.Module):
        weight, bias = weight_of(found), bias_of(found)
        transposed = input_axis(found) == 0
        seen = weight.T if transposed else weight
        return Matrix(seen[None], None if bias is None else bias[None], weight, transposed)
    bias = cast(Tensor | None, getattr(parent, f"{name.rpartition('.')[2]}_bias", None))
    # Llama 4 does not say so, but its experts multiply from the right.
    transposed = bool(getattr(parent, "is_transposed", type(parent).__name__ == "Llama4TextExperts"))
    return Matrix(found.transpose(1, 2) if transposed else found, bias, found, transposed)


def neurons_read(model: nn.Module, name: str) -> int:
    """How many neurons an output projection reads, or those of all experts together.

    Args:
        model: The model.
        name: Path of the projection, or of a parameter that holds one per expert.

    Returns:
        The number of neurons.
    """
    found = getattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    if isinstance(found, nn.Module):
        return input_width(found)
    weight = matrix_of(model, name).weight
    return weight.shape[0] * weight.shape[2]


@dataclass(frozen=True)
class Place:
    """Where the weights of a projection lie in the model."""

    weight: str
    """Name of the parameter."""
    bias: str | None
    """Name of the biases, if there are any."""
    shape: tuple[int, int, int]
    """Experts (1 for an ordinary projection), outputs and inputs."""
    is_stack: bool
    """Whether the parameter holds one matrix per expert."""
    is_transposed: bool
    """Whether inputs come before outputs in it."""


def place_of(model: nn.Module, name: str) -> Place:
    """Find where the weights of a projection lie.

    Args:
        model: The model.
        name: Path of a projection, or of a parameter that holds one matrix per expert.

    Returns:
        The names of its parameters, and how they are laid out.
    """
    parent = model.get_submodule(name.rpartition(".")[0])
    found, matrix = getattr(parent, name.rpartition(".")[2]), matrix_of(model, name)
    is_module = isinstance(found, nn.Module)
    weight, bias = (f"{name}.weight", f"{name}.bias") if is_module else (name, f"{name}_bias")
    # Quantized weights are packed, so that their shape does not tell.
    shape = (
        (1, output_width(found), input_width(found)) if is_module else cast(tuple[int, int, int], tuple(matrix.weight.shape))
    )
    return Place(weight, bias if matrix.bias is not None else None, shape, not is_module, matrix.transposed)
