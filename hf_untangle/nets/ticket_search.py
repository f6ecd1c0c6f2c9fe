"""Neuroevolutionary ticket search: our reconstruction of NeTS, which evolves masks and initial parameters in tandem.

An individual is an initialization and a mask. It learns for a few masked gradient steps, and its fitness is the validation
loss it reaches plus a price for the weights it keeps. The best live on, the rest are children of tournaments: crossed over and
mutated in parameters and mask together. Under Baldwinian inheritance a child gets what its parents started from, so that the
result is a sparse initialization; under Lamarckian inheritance it gets what they had learned.
"""

import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import MaskError, StatisticsError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.nets.checks import checked_program
from hf_untangle.nets.evolution import next_generation
from hf_untangle.nets.functional import Examples, Loss, Program, minibatches
from hf_untangle.nets.genes import Genes
from hf_untangle.nets.islands import exchanged, generator_for, immigrate, island
from hf_untangle.nets.keywords import NetsSettings
from hf_untangle.nets.population import Population, first_population, has_genes, packed, read_population
from hf_untangle.nets.record import Generation, Ticket
from hf_untangle.nets.search_config import NetsConfig
from hf_untangle.progress import track

logger = logging.getLogger("hf_untangle")

CHECKPOINT = "hf_untangle.nets/1"
BOOST = 4.0
"""Factor on the mutation rates after a population has collapsed to one genome."""


@checked_arguments
def search(
    network: nn.Module,
    train: Examples,
    validation: Examples,
    *,
    loss: Loss = F.cross_entropy,
    config: NetsConfig | str = "default",
    checkpoint: str | Path | None = None,
    chunk: int | None = None,
    progress: bool = True,
    **settings: Unpack[NetsSettings],
) -> Ticket:
    """Evolve a sparse initialization of a network.

    Under several processes each evolves an island of its own, and all return the best of all.

    Args:
        network: Gives the structure and the initializers; left as it was. Any module of linear and convolutional layers
            without running statistics; dropout must be in evaluation mode.
        train: Inputs and labels that individuals learn from.
        validation: Inputs and labels that they are judged on.
        loss: Mean loss of outputs and labels.
        config: Settings, or the name of a preset.
        checkpoint: A file that every generation is written to; a search whose file is there continues, to the same result.
        chunk: Individuals in one batched operation, as memory allows; all of them when None.
        progress: Whether to show a progress bar.
        **settings: Fields of `NetsConfig` that override `config`.

    Returns:
        The best individual of the last generation.

    Raises:
        ArchitectureError: The network has no weights that a mask could take, is frozen somewhere, or cannot run as a batched
            program.
        StatisticsError: No individual reached a finite loss.
        ConfigError: A setting is unknown or out of its range, or the examples are not those of such a network.
        MaskError: The checkpoint belongs to another search.
    """
    config = NetsConfig.resolve(config, **settings)
    program = checked_program(network, train, validation, loss, chunk)
    evolution = _Evolution(program, train, validation, config, _own_file(checkpoint))
    return evolution.run(progress=progress)


class _SearchRecord(FileRecord):
    """What a checkpoint says of its search."""

    config: NetsConfig
    history: tuple[Generation, ...]
    seconds: float = Field(ge=0, allow_inf_nan=False)


@dataclass(frozen=True, eq=False)
class _State:
    """A population that has not been judged yet, and the generations before it."""

    population: Population
    history: tuple[Generation, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class _Evolution:
    """What stays the same over all generations."""

    program: Program
    train: Examples
    validation: Examples
    config: NetsConfig
    file: Path | None

    @property
    def genes(self) -> Genes:
        """The network's genes."""
        return self.program.genes

    def run(self, *, progress: bool) -> Ticket:
        """Evolve to the last generation."""
        state, start = self._resumed() or self._first(), time.perf_counter()
        before = state.seconds
        with track("evolving", self.config.generations, unit="generation", progress=progress) as bar:
            bar.resume_at(len(state.history))
            while True:
                learned, fitness, generation = self._judge(state)
                history = (*state.history, generation)
                bar.say(f"fitness {generation.fitness:.4f}, {generation.density:.1%} kept")
                seconds = before + time.perf_counter() - start
                if len(history) > self.config.generations:
                    return self._ticket(state.population, fitness, history, seconds)
                state = _State(self._next(state.population, learned, fitness, generation), history, seconds)
                self._write(state)
                bar.update()

    def _first(self) -> _State:
        """The first generation of this island."""
        seed = generator_for(self.config.seed, island()[0]).initial_seed()
        settings = {"density": self.config.density, "seed": seed}
        return _State(first_population(self.program.network, self.genes, self.config.population, **settings), (), 0.0)

    def _judge(self, state: _State) -> tuple[Tensor, Float[Tensor, " individual"], Generation]:
        """Let every individual learn, and see what it reaches at which density."""
        population, config = state.population, self.config
        batches = minibatches(
            self.train, steps=config.steps, size=config.batch_size, generator=self._generator(state, purpose=0)
        )
        learned = self.program.learn(population.parameters, population.kept, batches, rate=config.learning_rate)
        losses = self.program.losses(learned, self.validation)
        density = self.genes.density(population.kept)
        fitness = (losses + config.sparsity_weight * density).nan_to_num(nan=torch.inf, posinf=torch.inf)
        best = int(fitness.argmin())
        if not torch.isfinite(fitness[best]):
            raise StatisticsError(
                f"Some individual must reach a finite loss, but no one of {len(population)} did in generation "
                f"{len(state.history)}. Lower learning_rate, and check the inputs for NaN."
            )
        numbers = (float(fitness[best]), float(fitness.median()), float(losses[best]), float(density[best]))
        return learned, fitness, Generation(len(state.history), *numbers, distinct=population.distinct())

    def _next(
        self, population: Population, learned: Tensor, fitness: Float[Tensor, " individual"], generation: Generation
    ) -> Population:
        """Breed the next generation."""
        if self.config.inheritance == "lamarck":
            population = replace(population, parameters=torch.where(population.kept, learned, population.parameters))
        boost = 1.0
        if generation.distinct == 1:
            logger.warning(
                "The population has collapsed to one genome in generation %d, so its mutation rates are raised %g times. "
                "Raise `mutation`, `shrink` or `population`.",
                generation.number,
                BOOST,
            )
            boost = BOOST
        draws = generator_for(self.config.seed, island()[0], generation.number, 1)
        children = next_generation(population, fitness, self.genes, self.config, generator=draws, boost=boost)
        if (generation.number + 1) % self.config.migrate_every == 0:
            return immigrate(children, fitness, population, self.config.elite)
        return children

    def _generator(self, state: _State, *, purpose: int) -> torch.Generator:
        """The generator of one generation's draws."""
        return generator_for(self.config.seed, island()[0], len(state.history), purpose)

    def _ticket(
        self, population: Population, fitness: Float[Tensor, " individual"], history: tuple[Generation, ...], seconds: float
    ) -> Ticket:
        """The best individual of all islands."""
        best = int(fitness.argmin())
        candidates = exchanged((float(fitness[best]), population[slice(best, best + 1)]))
        winner = min(candidates, key=lambda candidate: candidate[0])[1]
        steps = self.config.population * self.config.steps * len(history) * len(candidates)
        parameters = {name: one.clone() for name, one in self.genes.unflatten(winner.parameters[0]).items()}
        masks = {name: mask.clone() for name, mask in self.genes.masks(winner.kept[0]).items()}
        return Ticket(parameters, masks, self.config, history, steps, seconds)

    def _write(self, state: _State) -> None:
        """Write what the next generation starts from."""
        if self.file is not None:
            tensors = {"parameters": state.population.parameters, "kept": packed(state.population.kept)}
            record = {"config": self.config.model_dump(), "seconds": state.seconds}
            record["history"] = [asdict(one) for one in state.history]
            write_tensors(self.file, tensors, kind=CHECKPOINT, record=record)

    def _resumed(self) -> _State | None:
        """What a search that was stopped has written, if anything."""
        if self.file is None or not self.file.exists():
            return None
        content = read_tensors(self.file, kind=CHECKPOINT, what="a search", error=MaskError, record=_SearchRecord)
        genes = len(self.genes.maskable)
        if content.record.config != self.config or not has_genes(content, genes):
            raise MaskError(
                f"The checkpoint `{self.file}` must be of the same search, but its settings or its network differ. Give "
                "another file, or delete it."
            )
        population = read_population(content, self.config.population, genes)
        return _State(population, content.record.history, content.record.seconds)


def _own_file(checkpoint: str | Path | None) -> Path | None:
    """The checkpoint of this process' island."""
    if checkpoint is None:
        return None
    index, islands = island()
    path = Path(checkpoint)
    return path if islands == 1 else path.with_name(f"{path.stem}-island{index}{path.suffix}")
