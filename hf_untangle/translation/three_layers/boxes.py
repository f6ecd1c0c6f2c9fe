"""A box of inputs, in which the linear regions of a network are looked for."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError
from hf_untangle.translation.three_layers.network import ReluNetwork

Corner = float | int | Float[Tensor, "..."]
Bounds = tuple[Corner, Corner]
"""The lower and the upper corner, each a number for all inputs or a tensor of the shape of one input."""


@checked_calls
@dataclass(frozen=True, eq=False)
class Box:
    """All points x with lower <= x <= upper in each coordinate."""

    lower: Float[Tensor, " input"]
    """Smallest value of each input, in float64."""
    upper: Float[Tensor, " input"]
    """Largest value of each input, in float64."""
    __repr__ = fields_repr

    def sample(self, count: int, seed: int = 0) -> Float[Tensor, "point input"]:
        """Draw points uniformly.

        Args:
            count: How many.
            seed: Of the random generator.

        Returns:
            The points.
        """
        random = torch.rand(count, len(self.lower), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        return self.lower + random * (self.upper - self.lower)


def box_of(network: ReluNetwork, bounds: Bounds) -> Box:
    """Make a box of inputs of a network.

    Args:
        network: The network.
        bounds: The lower and the upper corner.

    Returns:
        The box.

    Raises:
        ConfigError: The box has zero or infinite width somewhere, or another shape than the inputs.
    """
    lower, upper = (_corner(network, bound) for bound in bounds)
    width = upper - lower
    if not (width.isfinite() & (width > 0)).all():
        worst = int((~(width.isfinite() & (width > 0))).nonzero()[0])
        raise ConfigError(
            f"Every side of the box must have a finite width above 0, but input {worst} runs from "
            f"{lower[worst]:g} to {upper[worst]:g}. Leave out inputs that do not vary."
        )
    return Box(lower, upper)


@checked_arguments
def around(x: Float[Tensor, "..."], radius: float) -> Bounds:
    """Bound the cube around a point, to look at a network locally.

    Args:
        x: Its center, one input without the batch.
        radius: Half its side.

    Returns:
        The lower and the upper corner.
    """
    return x - radius, x + radius


def _corner(network: ReluNetwork, bound: Corner) -> Tensor:
    """Give one number for each input."""
    corner = torch.as_tensor(bound, dtype=torch.float64, device="cpu").flatten()
    if corner.numel() not in (1, network.inputs):
        raise ConfigError(
            f"A corner of the box must be one number or have the shape {network.input_shape} of an input, "
            f"got {corner.numel()} numbers."
        )
    return corner.expand(network.inputs)
