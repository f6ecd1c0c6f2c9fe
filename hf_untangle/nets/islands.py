"""Islands: every process evolves a population of its own, and now and then they exchange their best."""

import hashlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch import distributed as processes

from hf_untangle.nets.population import Population


def island() -> tuple[int, int]:
    """The number of this island, and how many there are: one per process."""
    if not processes.is_available() or not processes.is_initialized():
        return 0, 1
    return processes.get_rank(), processes.get_world_size()


def generator_for(*numbers: int) -> torch.Generator:
    """A generator that these numbers alone decide, so that a resumed search draws what an unbroken one would.

    Args:
        *numbers: Such as seed, island and generation.

    Returns:
        The generator, on the CPU.
    """
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def immigrate(population: Population, fitness: Float[Tensor, " individual"], parents: Population, count: int) -> Population:
    """Let the best parents of the previous island take the place of the last children here.

    Args:
        population: The next generation.
        fitness: Of the parents.
        parents: The generation that was judged.
        count: How many travel.

    Returns:
        The next generation with its guests; unchanged when there is one island.
    """
    index, islands = island()
    if islands == 1:
        return population
    guests = exchanged(parents[fitness.argsort()[:count]])[index - 1]
    return population[slice(0, len(population) - count)] + guests


def exchanged(mine: Any) -> list[Any]:
    """What every island gives, in their order.

    Args:
        mine: What this one gives.

    Returns:
        One entry an island.
    """
    _, islands = island()
    if islands == 1:
        return [mine]
    everyone: list[Any] = [None] * islands
    processes.all_gather_object(everyone, mine)
    return everyone
