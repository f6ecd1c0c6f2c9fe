"""One generation to the next: tournaments, crossover and mutation of parameters and masks together."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_untangle.nets.genes import Genes
from hf_untangle.nets.population import Population
from hf_untangle.nets.search_config import NetsConfig


def next_generation(
    population: Population,
    fitness: Float[Tensor, " individual"],
    genes: Genes,
    config: NetsConfig,
    *,
    generator: torch.Generator,
    boost: float = 1.0,
) -> Population:
    """Keep the best unchanged, and fill the rest of the population with their children.

    Args:
        population: The parents' generation.
        fitness: What each parent reached; lower is better.
        genes: Which genes may be masked.
        config: The operators' settings.
        generator: For every draw.
        boost: Factor on all mutation rates, above 1 after a collapse.

    Returns:
        As many individuals, the elite first.
    """
    elite = population[fitness.argsort()[: config.elite]]
    pairs = tournament_pairs(fitness, len(population) - config.elite, config.tournament, generator)
    children = crossover(population[pairs[0]], population[pairs[1]], config.crossover, generator)
    return elite + mutate(children, genes, config, generator=generator, boost=boost)


def tournament_pairs(
    fitness: Float[Tensor, " individual"], children: int, size: int, generator: torch.Generator
) -> Int[Tensor, "2 child"]:
    """Choose two parents for each child: the two best of one tournament, drawn with replacement."""
    drawn = torch.randint(len(fitness), (children, size), generator=generator)
    best = fitness[drawn].argsort(1)[:, :2]
    return drawn.gather(1, best).T


def crossover(first: Population, second: Population, share: float, generator: torch.Generator) -> Population:
    """Take each gene, with its place in the mask, from the first parent with some probability, otherwise from the second.

    One draw decides for parameter and mask together, and every child has its own.
    """
    from_first = torch.rand(first.parameters.shape, generator=generator) < share
    return Population(
        torch.where(from_first, first.parameters, second.parameters), torch.where(from_first, first.kept, second.kept)
    )


def mutate(
    population: Population, genes: Genes, config: NetsConfig, *, generator: torch.Generator, boost: float = 1.0
) -> Population:
    """Add noise to a few parameters, and flip a few places of the masks.

    Args:
        population: The individuals that mutate.
        genes: Which genes may be masked.
        config: Rates and the noise's standard deviation.
        generator: For every draw.
        boost: Factor on all rates.

    Returns:
        A new population.
    """
    shape = population.parameters.shape
    noise = (config.sigma * torch.randn(shape, generator=generator)).to(population.parameters)
    noisy = torch.rand(shape, generator=generator) < min(1.0, boost * config.mutation)
    flipped = _flips(population.kept, config.shrink * boost, config.grow * boost, generator) & genes.maskable
    return Population(population.parameters + noise * noisy, population.kept ^ flipped)


def _flips(
    kept: Bool[Tensor, "individual gene"], shrink: float, grow: float, generator: torch.Generator
) -> Bool[Tensor, "individual gene"]:
    """Which places of the masks change: kept genes go with one probability, removed ones return with another."""
    return torch.rand(kept.shape, generator=generator) < torch.where(kept, shrink, grow)
