"""The discrete channel: real numbers in, noisy soft bits out in training, hard bits out in evaluation."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class BitChannel(nn.Module):
    """A channel that carries bits, and teaches its sender to use only two values.

    Training: sigmoid(T (x + e)) with e normal of standard deviation `noise`, so that only numbers far from 0 arrive as they
    were meant, and a gradient flows. Evaluation: 1[x > 0], which is the sigmoid rounded.
    """

    def __init__(self, noise: float, temperature: float) -> None:
        """Make a channel, which has no parameters.

        Args:
            noise: Standard deviation of what is added in training.
            temperature: Steepness T of the sigmoid in training.
        """
        super().__init__()
        self.noise, self.temperature = noise, temperature

    def forward(self, sent: Float[Tensor, "item bit"]) -> Float[Tensor, "item bit"]:
        """Carry a message.

        Args:
            sent: Real numbers.

        Returns:
            Soft bits in training, 0 and 1 otherwise.
        """
        if self.training:
            return torch.sigmoid(self.temperature * (sent + self.noise * torch.randn_like(sent)))
        return (sent > 0).to(sent.dtype)


def replace_bits(
    bits: Float[Tensor, "item bit"], kept: Bool[Tensor, " bit"], constants: Float[Tensor, " bit"]
) -> Float[Tensor, "item bit"]:
    """Put a constant instead of masked bits: kept ? bit : constants.

    Args:
        bits: The message.
        kept: Which bits arrive.
        constants: What the receiver reads instead of each of the others.

    Returns:
        The message as it is read.
    """
    return torch.where(kept, bits, constants)
