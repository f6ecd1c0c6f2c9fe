"""How much each input contributes to one output: integrated gradients and Shapley values, without quadrature.

A network is linear on each piece of a segment, so the mean of its gradient along the segment is a finite sum
(arXiv 1703.01365 defines integrated gradients). It is linear in each region, so Shapley values have a closed
form wherever all their mixed inputs stay in one region (arXiv 2305.09424); the result says whether that
is so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError
from hf_untangle.translation.three_layers.network import ReluNetwork, activation_pattern, half_spaces, local_model
from hf_untangle.translation.three_layers.read_network import read_network
from hf_untangle.translation.three_layers.restrictions import segment

Exactness = Literal["certified", "enumerated", "sampled"]

Game = Callable[[Bool[Tensor, "set d"]], Float[Tensor, " set"]]
"""What each set of inputs is worth."""

MAX_ENUMERATED = 15
"""Most differing inputs whose 2^d mixtures are all evaluated."""


@checked_calls
@dataclass(frozen=True, eq=False)
class ShapleyValues:
    """Shapley values of the inputs at one point, against one baseline."""

    values: Float[Tensor, "..."]
    """The contribution of each input; they add up to the output at the point minus that at the baseline."""
    exactness: Exactness
    """How they were found: by the closed form, which was certified; from all mixtures; or from a sample."""
    standard_error: Float[Tensor, "..."]
    """The standard error of each value, 0 unless they were sampled."""
    __repr__ = fields_repr


@checked_arguments
def integrated_gradients(
    network: nn.Module | ReluNetwork,
    x: Float[Tensor, "..."],
    baseline: Float[Tensor, "..."],
    output: int = 0,
) -> Float[Tensor, "..."]:
    """Integrate the gradient of one output along the segment from a baseline to a point.

    (x_i - baseline_i) times the sum over linear pieces of length x slope_i: no quadrature error.

    Args:
        network: The network, or a module that `read_network` can read.
        x: The point, one input without the batch.
        baseline: The baseline, of the same shape.
        output: Which output, counted in the flattened output.

    Returns:
        The attribution of each input. They add up to the difference of the outputs at the two points.
    """
    network = read_network(network)
    pieces = segment(network, baseline, x)
    start, way = _flat(network, baseline), _flat(network, x) - _flat(network, baseline)
    middles = (start + pieces.middles[:, None] * way).requires_grad_()
    with torch.enable_grad():
        total = network(middles).flatten(1)[:, output].sum()
    (slopes,) = torch.autograd.grad(total, middles)
    return (way * (pieces.lengths @ slopes)).reshape(network.input_shape)


@checked_arguments
def shapley_values(
    network: nn.Module | ReluNetwork,
    x: Float[Tensor, "..."],
    baseline: Float[Tensor, "..."],
    output: int = 0,
    *,
    permutations: int = 1000,
    seed: int = 0,
) -> ShapleyValues:
    """Compute Shapley values of one output: what each input adds when inputs change from baseline to point.

    The game's value of a set S of inputs is the output at the point that has x in S and the baseline
    elsewhere. If the box between baseline and x lies in one linear region, the values are slope_i (x_i -
    baseline_i). Otherwise all 2^d mixtures of the d inputs that differ are evaluated, or permutations are
    sampled if d is more than 15.

    Args:
        network: The network, or a module that `read_network` can read.
        x: The point, one input without the batch.
        baseline: The baseline, of the same shape.
        output: Which output, counted in the flattened output.
        permutations: How many permutations to sample, if it comes to that.
        seed: Of the sampling.

    Returns:
        The values, how they were found, and their standard errors.

    Raises:
        ConfigError: There are fewer than two permutations to sample.
    """
    if permutations < 2:
        raise ConfigError(f"A sample needs at least two permutations, got {permutations}.")
    network = read_network(network)
    point, start = _flat(network, x), _flat(network, baseline)
    differs = (point != start).nonzero()[:, 0]
    value = _game(network, point, start, output)
    values, error = torch.zeros_like(point), torch.zeros_like(point)
    if _in_one_region(network, point, start):
        exactness: Exactness = "certified"
        pattern = activation_pattern(network, point[None])[0]
        values = local_model(network, pattern)[output, :-1] * (point - start)
    elif len(differs) <= MAX_ENUMERATED:
        exactness, values[differs] = "enumerated", _enumerated(value, len(differs))
    else:
        exactness = "sampled"
        marginals = _sampled(value, len(differs), permutations, seed)
        values[differs] = marginals.mean(dim=0)
        error[differs] = marginals.std(dim=0) / math.sqrt(permutations)
    shape = network.input_shape
    return ShapleyValues(values.reshape(shape), exactness, error.reshape(shape))


def _flat(network: ReluNetwork, x: Tensor) -> Tensor:
    """Flatten one input, in the dtype of the network."""
    return network.homogeneous(x[None])[0, :-1]


def _in_one_region(network: ReluNetwork, point: Tensor, start: Tensor) -> bool:
    """Certify that the box between two points lies in the closed region of the first one.

    For each half-space g . x + h >= 0, the smallest value over the box is sum_i min(g_i x_i, g_i z_i) + h.
    """
    pattern = activation_pattern(network, point[None])[0]
    rows = half_spaces(network, pattern) * torch.where(pattern, 1.0, -1.0)[:, None]
    smallest = torch.minimum(rows[:, :-1] * point, rows[:, :-1] * start).sum(dim=1) + rows[:, -1]
    return bool((smallest >= 0).all())


def _game(network: ReluNetwork, point: Tensor, start: Tensor, output: int) -> Game:
    """Make the game: the output where the taken ones of the differing inputs are those of the point."""
    differs = (point != start).nonzero()[:, 0]

    def value(taken: Bool[Tensor, "set d"]) -> Float[Tensor, " set"]:
        """Evaluate one mixture for each set."""
        mixed = start.expand(len(taken), -1).clone()
        mixed[:, differs] = torch.where(taken, point[differs], start[differs])
        return network(mixed.reshape(-1, *network.input_shape)).flatten(1)[:, output]

    return value


def _enumerated(value: Game, count: int) -> Float[Tensor, " d"]:
    """Weigh every marginal contribution v(S + i) - v(S) by |S|! (d - |S| - 1)! / d!."""
    sets = torch.arange(2**count)
    taken = (sets[:, None] >> torch.arange(count)) & 1 == 1
    worth = value(taken)
    weight = worth.new_tensor([1 / (count * math.comb(count - 1, size)) for size in range(count)])
    contributions = []
    for i in range(count):
        without = sets[~taken[:, i]]
        sizes = taken[without].sum(dim=1)
        contributions.append((weight[sizes] * (worth[without + 2**i] - worth[without])).sum())
    return torch.stack(contributions)


def _sampled(value: Game, count: int, permutations: int, seed: int) -> Float[Tensor, "permutation d"]:
    """Let the inputs change one after the other, in random orders, and note what each change adds."""
    random = torch.rand(permutations, count, generator=torch.Generator().manual_seed(seed))
    ranks = random.argsort(dim=1).argsort(dim=1)
    steps = torch.arange(count + 1)[:, None]
    return torch.stack([value(rank < steps).diff()[rank] for rank in ranks])
