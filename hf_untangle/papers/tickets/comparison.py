"""A ticket beside every other way to train as many weights, for the same number of gradient steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError
from hf_untangle.nets.checks import checked_program
from hf_untangle.nets.functional import Examples, Loss, Program, minibatches
from hf_untangle.nets.genes import fresh_parameters
from hf_untangle.nets.islands import generator_for
from hf_untangle.nets.record import Ticket
from hf_untangle.papers.tickets import baselines


@checked_calls
@dataclass(frozen=True)
class Contestant:
    """How one way to a sparse network did."""

    name: str
    density: float
    """Share of the maskable weights that it trains."""
    accuracies: dict[int, float]
    """Test accuracy after so many gradient steps, from 0 to 1."""
    search_steps: int
    """Gradient steps that finding it took, before any of those."""
    __repr__ = fields_repr


@dataclass(frozen=True, eq=False)
class _Arena:
    """What all contestants share."""

    program: Program
    train: Examples
    test: Examples
    ticket: Ticket
    steps: tuple[int, ...]
    seed: int

    def trained(self, name: str, start: torch.Tensor, kept: torch.Tensor, search_steps: int) -> Contestant:
        """Train one contestant, and score it at every number of steps on the way."""
        config, genes = self.ticket.config, self.program.genes
        accuracies, learned, taken = {}, start, 0
        generator = generator_for(self.seed, 0)
        for steps in self.steps:
            batches = minibatches(self.train, steps=steps - taken, size=config.batch_size, generator=generator)
            learned, taken = self.program.learn(learned, kept, batches, rate=config.learning_rate), steps
            accuracies[steps] = float(self.program.accuracies(learned, self.test)[0])
        return Contestant(name, float(genes.density(kept)[0]), accuracies, search_steps)


@checked_arguments
def compare(
    network: nn.Module,
    ticket: Ticket,
    train: Examples,
    test: Examples,
    *,
    steps: Sequence[int] = (60, 1500),
    magnitude_rounds: tuple[int, int] = (8, 600),
    loss: Loss = F.cross_entropy,
    seed: int = 0,
) -> list[Contestant]:
    """Train a ticket and its rivals on the same batches, each with the ticket's density in every layer.

    Args:
        network: The network that the ticket is for.
        ticket: What a search found.
        train: Inputs and labels to learn from.
        test: Held-out inputs and labels not used for selection.
        steps: After how many gradient steps to score.
        magnitude_rounds: Rounds of iterative magnitude pruning, and gradient steps in each.
        loss: Mean loss of outputs and labels.
        seed: For the rivals' initialization, their draws and the batches.

    Returns:
        The ticket; a random mask, SNIP, SynFlow and iterative magnitude pruning from another initialization; that
        initialization dense; and the ticket's mask on it.

    Raises:
        ConfigError: The ticket keeps everything or nothing, so that there is nothing to compare, or the examples are not those
            of such a network.
        ArchitectureError: The network cannot run as a batched program.
    """
    if ticket.density in (0, 1):
        raise ConfigError(
            f"A comparison at equal density needs a ticket that keeps some weights and not others, but this one keeps "
            f"{ticket.density:.0%}. Change sparsity_weight, or search longer."
        )
    program = checked_program(network, train, test, loss)
    arena = _Arena(program, train, test, ticket, tuple(sorted(steps)), seed)
    return list(_contestants(arena, *magnitude_rounds))


def _contestants(arena: _Arena, rounds: int, round_steps: int) -> Iterator[Contestant]:
    """Everyone, the ticket first."""
    program, genes, ticket = arena.program, arena.program.genes, arena.ticket
    fresh = fresh_parameters(program.network, genes, 1, seed=arena.seed + 1_000_003)
    densities, found = ticket.densities(), _kept_of(ticket, arena)
    everything = torch.ones_like(fresh, dtype=torch.bool)
    few = next(iter(minibatches(arena.train, steps=1, size=512, generator=generator_for(arena.seed, 1))))
    imp: dict[str, Any] = {"rounds": rounds, "steps": round_steps, "config": ticket.config}
    yield arena.trained("ticket", genes.flatten(ticket.parameters)[None], found, ticket.individual_steps)
    yield arena.trained("random mask", fresh, baselines.random_mask(genes, densities, generator_for(arena.seed, 2)), 0)
    yield arena.trained("SNIP", fresh, baselines.snip(program, fresh, densities, few), 1)
    yield arena.trained("SynFlow", fresh, baselines.synflow(program, fresh, densities, arena.train[0]), 0)
    pruned = baselines.iterative_magnitude(
        program, fresh, densities, arena.train, generator=generator_for(arena.seed, 3), **imp
    )
    yield arena.trained("iterative magnitude", fresh, pruned, rounds * round_steps)
    yield arena.trained("dense", fresh, everything, 0)
    yield arena.trained("ticket's mask, new start", fresh, found, ticket.individual_steps)


def _kept_of(ticket: Ticket, arena: _Arena) -> torch.Tensor:
    """The ticket's masks as one row."""
    genes = arena.program.genes
    whole = {name: ticket.masks.get(name, torch.ones(shape, dtype=torch.bool)) for name, shape in genes.shapes.items()}
    return torch.cat([whole[name].reshape(-1) for name in genes.shapes])[None]
