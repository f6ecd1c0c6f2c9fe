"""Linear projections: `nn.Linear`, and `Conv1D`, which is the same with its weight transposed."""

from typing import cast

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def is_projection(module: nn.Module) -> bool:
    """Tell whether a module is a linear projection, quantised ones included.

    Args:
        module: Any module.

    Returns:
        True for a projection.
    """
    return isinstance(module, nn.Linear | Conv1D)


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
    """How many neurons a projection reads; quantised weights may be packed, so their shape does not tell.

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
