"""Activation noise: a mechanism that hides a capability may be more fragile than the capability (arXiv:2505.23270)."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hf_untangle.attacks.context import Scene
from hf_untangle.attacks.hidden_states import blocks_of, rewritten
from hf_untangle.records.attacks import Reading

AMOUNTS = (0.03, 0.1, 0.3)
"""Standard deviations of the noise, as shares of the root mean square of a token's state."""


def noise(scene: Scene) -> Iterator[Reading]:
    """Add Gaussian noise to what every block but the last leaves.

    With L such blocks, each adds noise of the share a / sqrt(L) of a token's root mean square, so that it adds up to a.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows under more and more noise.
    """
    for role, seed, model in scene.victims_by_seed():
        layers = list(range(max(1, len(blocks_of(model)) - 1)))
        for number, amount in enumerate(AMOUNTS, start=1):
            with rewritten(model, layers, _noisy(amount / len(layers) ** 0.5, seed)):
                metrics = scene.knows(model)
            yield Reading(model=role, condition=f"noise of {amount:.0%}", at=number, forget=metrics, seed=seed)


def _noisy(share: float, seed: int) -> Callable[[int, Tensor], Tensor]:
    """Make a function that adds noise to states, drawn on the processor so that it is the same on every device."""
    generator = torch.Generator().manual_seed(seed)

    def disturb(_: int, states: Tensor) -> Tensor:
        drawn = torch.randn(states.shape, generator=generator).to(states)
        return states + share * states.square().mean(-1, keepdim=True).sqrt() * drawn

    return disturb
