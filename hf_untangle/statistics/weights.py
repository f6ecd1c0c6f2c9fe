"""How large the weights of every neuron are: of the column that reads it, and of the rows that compute it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup, Producer
from hf_untangle.architecture.projections import matrix_of
from hf_untangle.errors import StatisticsError


@dataclass(frozen=True, eq=False)
class WeightNorms:
    """Euclidean norms for one neuron group, on the CPU in float64."""

    column: Float[Tensor, " neuron"]
    """Norm of the output projection's column that reads the neuron."""
    rows: Float[Tensor, " neuron"]
    """Norm of everything that computes the neuron: the rows of all its producers, and their biases."""


def weight_norms(model: nn.Module, groups: Sequence[NeuronGroup]) -> dict[str, WeightNorms]:
    """Measure the weights of every neuron.

    Args:
        model: The model that the groups were found in.
        groups: Which neuron groups to measure.

    Returns:
        The norms of each group.

    Raises:
        StatisticsError: Some of the weights are quantised or not loaded, so that their numbers say nothing.
    """
    return {
        group.name: WeightNorms(
            column=_norms(model, group.name, of_inputs=True),
            rows=_together([_row_norms(model, producer) for producer in group.producers]),
        )
        for group in groups
    }


def _row_norms(model: nn.Module, producer: Producer) -> Float[Tensor, " neuron"]:
    """The norm of the row, and its bias, by which a producer computes each neuron."""
    norms, bias = _norms(model, producer.name, of_inputs=False), matrix_of(model, producer.name).bias
    if bias is not None:
        norms = _together([norms, bias.detach().flatten().double().cpu()])
    return norms[producer.rows]


def _norms(model: nn.Module, name: str, *, of_inputs: bool) -> Float[Tensor, " index"]:
    """The norm of what belongs to each input of a projection (its column), or to each output (its row), expert by expert."""
    parameter = matrix_of(model, name).parameter
    if not parameter.is_floating_point() or parameter.is_meta or hasattr(parameter, "quant_state"):
        raise StatisticsError(
            f"The norms of `{name}` need its weights in floating point and loaded, but they are quantised or offloaded. Choose "
            "an importance that needs no weights, such as rms, or load the model in full precision."
        )
    weight = matrix_of(model, name).weight.detach()
    return torch.linalg.vector_norm(weight, dim=1 if of_inputs else 2, dtype=torch.float64).flatten().cpu()


def _together(norms: list[Tensor]) -> Float[Tensor, " neuron"]:
    """The norm of several vectors joined, from the norm of each."""
    return torch.stack(norms).square().sum(0).sqrt()
