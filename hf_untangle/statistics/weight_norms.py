"""How large the weights of every neuron are: of the column that reads it, and of the rows that compute it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.parameters import read_matrix
from hf_untangle.architecture.projections import Matrix, matrix_of
from hf_untangle.architecture.quantized import has_codes
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import StatisticsError


@checked_calls
@dataclass(frozen=True, eq=False)
class WeightNorms:
    """Euclidean norms for one neuron group, on the CPU in float64."""

    column: Float[Tensor, " neuron"]
    """Norm of the output projection's column that reads the neuron."""
    rows: Float[Tensor, " neuron"]
    """Norm of everything that computes the neuron: the rows of all its producers, and their biases."""
    __repr__ = fields_repr


@checked_arguments
def weight_norms(model: nn.Module, groups: Sequence[NeuronGroup]) -> dict[str, WeightNorms]:
    """Measure the weights of every neuron.

    Args:
        model: The model that the groups were found in.
        groups: Which neuron groups to measure.

    Returns:
        The norms of each group.

    Raises:
        StatisticsError: Some of the weights are quantized in another format than those of bitsandbytes.
    """
    return {group.name: WeightNorms(column=_columns(model, group), rows=_rows(model, group)) for group in groups}


def _columns(model: nn.Module, group: NeuronGroup) -> Float[Tensor, " neuron"]:
    """The norm of the column that reads each neuron."""
    return _norm(_numbers(model, group.name).weight, axis=1)


def _rows(model: nn.Module, group: NeuronGroup) -> Float[Tensor, " neuron"]:
    """The norm of everything that computes each neuron."""
    squares = torch.zeros(group.size, dtype=torch.float64)
    for producer in group.producers:
        matrix = _numbers(model, producer.name)
        squares += _norm(matrix.weight, axis=2)[producer.rows].square()
        if matrix.bias is not None:
            squares += matrix.bias.detach().double().cpu().flatten()[producer.rows].square()
    return squares.sqrt()


def _numbers(model: nn.Module, name: str) -> Matrix:
    """The weights of a projection, where they are numbers."""
    weight = matrix_of(model, name).parameter
    if not (weight.is_floating_point() or has_codes(weight)):
        raise StatisticsError(
            f"The norms of `{name}` need its weights in floating point, or in 8 or 4 bits of bitsandbytes, but they are "
            f"{weight.dtype}. Choose an importance that needs no weights, such as rms, or load the model in full precision."
        )
    return read_matrix(model, name)


def _norm(weight: Float[Tensor, "expert output input"], axis: int) -> Float[Tensor, " index"]:
    """Norms along one axis, expert by expert."""
    return torch.linalg.vector_norm(weight.detach(), dim=axis, dtype=torch.float64).flatten().cpu()
