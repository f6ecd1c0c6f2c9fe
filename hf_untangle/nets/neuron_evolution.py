"""Masks over the neurons of a language model that evolve, one generation at a time.

Fitness is the loss on the retain corpus, plus a price for the neurons that are kept, less what the loss on the forget corpus
earns: so the same search compresses, and unlearns.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.errors import ConfigError, MaskError, StatisticsError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.models import name_and_revision
from hf_untangle.nets.batched_models import Crowd, neuron_genes
from hf_untangle.nets.evolution import mutate, next_generation
from hf_untangle.nets.islands import generator_for, immigrate, island
from hf_untangle.nets.population import Population, has_genes, packed, read_population
from hf_untangle.nets.record import Generation
from hf_untangle.nets.search_config import NeuronNetsConfig

FORMAT = "hf_untangle.neuron-nets/1"


class _PopulationRecord(FileRecord):
    """What a file says of its search."""

    config: NeuronNetsConfig
    history: tuple[Generation, ...]


class NeuronEvolution:
    """A population of masks, with an adapter each where the settings ask for one."""

    def __init__(
        self,
        model: PreTrainedModel,
        retain: TokenBlocks,
        *,
        config: NeuronNetsConfig,
        forget: TokenBlocks | None = None,
        groups: Sequence[NeuronGroup] | None = None,
        start: NeuronMask | None = None,
        with_others: bool = True,
    ) -> None:
        """Draw the first generation.

        Args:
            model: The model, which is never written to.
            retain: Blocks that individuals learn from and are judged on.
            config: The settings.
            forget: Blocks whose loss is to rise.
            groups: Which neurons may go; all when None.
            start: A mask that the first generation varies; drawn at random when None.
            with_others: Whether each process is an island of its own; otherwise all evolve the same population.

        Raises:
            ConfigError: forget_weight and forget blocks came one without the other.
        """
        if (forget is None) != (config.forget_weight == 0):
            raise ConfigError("A search that unlearns needs forget blocks and a forget_weight above 0, got only one of them.")
        groups = tuple(groups) if groups is not None else neuron_groups(model)
        self.config, self.history = config, tuple[Generation, ...]()
        self._retain, self._forget = retain, forget
        self._crowd = Crowd(model, groups, neuron_genes(model, groups, config.rank))
        self._island = island()[0] if with_others else 0
        self._migrates = with_others
        name, revision = name_and_revision(model)
        self._everything = NeuronMask.keep_all(groups, name, revision=revision)
        self._population = self._first(start)
        self._best = self._population[slice(0, 1)]

    @property
    def mask(self) -> NeuronMask:
        """The best mask of the last generation that was judged."""
        kept = self._crowd.genes.unflatten(self._best.kept[0])
        return self._everything.with_kept({name: kept[name].clone() for name in self._everything})

    def adapters(self) -> dict[str, Tensor]:
        """What each output projection's weight gains by the best individual's adapter, of shape [neuron, output]."""
        factors = self._crowd.genes.unflatten(self._best.parameters[0])
        names = [name for name in self._everything if f"{name}/down" in factors]
        return {name: factors[f"{name}/down"] @ factors[f"{name}/up"] for name in names}

    def advance(self) -> Generation:
        """Let the population learn, judge it, and breed the next one.

        Returns:
            How the judged generation did.

        Raises:
            StatisticsError: No individual reached a finite loss.
        """
        number = len(self.history)
        with evaluation_mode(self._crowd.model), _frozen(self._crowd.model):
            learned = self._learn(number)
            fitness, retain = self._judge(learned, number)
        best = int(fitness.argmin())
        if not torch.isfinite(fitness[best]):
            raise StatisticsError(f"Some mask must leave a finite loss, but no mask of {len(fitness)} did. Raise density.")
        density = self._crowd.genes.density(learned.kept)
        numbers = (float(fitness[best]), float(fitness.median()), float(retain[best]), float(density[best]))
        self.history += (Generation(number, *numbers, distinct=len(learned.kept.unique(dim=0))),)
        self._best = learned[slice(best, best + 1)]
        parents = learned if self.config.inheritance == "lamarck" else self._population
        draws = generator_for(self.config.seed, self._island, number, 1)
        children = next_generation(parents, fitness, self._crowd.genes, self.config, generator=draws)
        if self._migrates and (number + 1) % self.config.migrate_every == 0:
            children = immigrate(children, fitness, parents, self.config.elite)
        self._population = children
        return self.history[-1]

    def save(self, file: str | Path) -> None:
        """Write the population that comes next, and how those before it did.

        Args:
            file: A safetensors file.
        """
        tensors = {"parameters": self._population.parameters, "kept": packed(self._population.kept)}
        tensors |= {"best/parameters": self._best.parameters.clone(), "best/kept": packed(self._best.kept)}
        record = {"config": self.config.model_dump(), "history": [asdict(one) for one in self.history]}
        write_tensors(file, tensors, kind=FORMAT, record=record)

    def load(self, file: str | Path) -> None:
        """Go on with what `save` wrote.

        Args:
            file: A safetensors file.

        Raises:
            MaskError: It is of another search.
        """
        content = read_tensors(file, kind=FORMAT, what="a population", error=MaskError, record=_PopulationRecord)
        genes = len(self._crowd.genes.maskable)
        if content.record.config != self.config or not has_genes(content, genes):
            raise MaskError(f"The population in `{file}` must be of the same search, but its settings or its model differ.")
        population = read_population(content, self.config.population, genes)
        best = read_population(content, 1, genes, "best/")
        self._population, self._best, self.history = population, best, content.record.history

    def _first(self, start: NeuronMask | None) -> Population:
        """The first generation: masks of the density asked for, or variations of one; adapters that add nothing yet."""
        genes, size = self._crowd.genes, self.config.population
        generator = generator_for(self.config.seed, self._island)
        down = torch.cat([torch.full((shape.numel(),), name.endswith("/down")) for name, shape in genes.shapes.items()])
        parameters = torch.randn(size, len(down), generator=generator) * down / max(self.config.rank, 1)
        if start is None:
            kept = (torch.rand(parameters.shape, generator=generator) < self.config.density) | ~genes.maskable
            return Population(parameters, kept)
        rest = torch.ones(int((~genes.maskable).sum()), dtype=torch.bool)
        one = torch.cat([*(start[name] for name in self._everything), rest])
        copies = Population(parameters, one.repeat(size, 1))
        return copies[slice(0, 1)] + mutate(copies[slice(1, size)], genes, self.config, generator=generator)

    def _learn(self, number: int) -> Population:
        """Train every individual's adapter on the retain corpus under its mask."""
        if not self.config.steps:
            return self._population
        parameters = self._population.parameters.clone().requires_grad_()
        optimizer = torch.optim.Adam([parameters], lr=self.config.learning_rate)
        with torch.enable_grad():
            for step in range(self.config.steps):
                batch = _drawn(self._retain, self.config.batch_size, generator_for(self.config.seed, number, 2, step))
                # Individuals share no parameter, so the gradient of the sum is each one's own.
                self._crowd.losses(parameters, self._population.kept, batch).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
        return replace(self._population, parameters=parameters.detach())

    @torch.inference_mode()
    def _judge(self, population: Population, number: int) -> tuple[Float[Tensor, " individual"], Float[Tensor, " individual"]]:
        """Fitness and retain loss of every individual, all on the same few blocks."""
        size, config = self.config.batch_size, self.config
        draws = generator_for(config.seed, number, 3)
        retain = self._crowd.losses(population.parameters, population.kept, _drawn(self._retain, size, draws)).cpu()
        fitness = retain + config.sparsity_weight * self._crowd.genes.density(population.kept)
        if self._forget is not None:
            forget = self._crowd.losses(population.parameters, population.kept, _drawn(self._forget, size, draws)).cpu()
            fitness = fitness - config.forget_weight * forget
        return fitness.nan_to_num(nan=torch.inf, posinf=torch.inf), retain


def _drawn(blocks: TokenBlocks, count: int, generator: torch.Generator) -> TokenBlocks:
    """A few blocks, drawn without replacement."""
    return blocks.rows(torch.randperm(len(blocks.input_ids), generator=generator)[:count])


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Ask for no gradient of the model's own parameters inside the `with` block."""
    with ExitStack() as undo:
        for parameter in model.parameters():
            if parameter.requires_grad:
                undo.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        yield
