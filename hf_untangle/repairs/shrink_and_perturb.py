"""Shrink and perturb: weights between what a model has learnt and fresh ones (Ash and Adams 2020, arXiv:1910.08475)."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def shrink_and_perturb_(model: nn.Module, strength: float, noise: float, seed: int) -> None:
    """Write W <- (1 - a) W + a b N to every weight, as UNDO does before it distils (arXiv:2506.06278).

    N is drawn as Xavier initialization draws a matrix, from a normal distribution of variance 2 / (inputs + outputs); of
    vectors, such as biases and the scales of norms, it is zero.

    Args:
        model: The model, changed in place. Tied weights are changed once.
        strength: The share a, from 0 to 1.
        noise: The factor b.
        seed: For the draw, which is the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.mul_(1 - strength)
        if noise and parameter.ndim > 1:
            parameter.add_(_fresh(parameter, generator), alpha=strength * noise)


def _fresh(parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Freshly initialized weights of the shape of others; of a stack of experts every matrix by itself."""
    *_, outputs, inputs = parameter.shape
    drawn = torch.randn(parameter.shape, generator=generator) * (2 / (inputs + outputs)) ** 0.5
    return drawn.to(parameter)
