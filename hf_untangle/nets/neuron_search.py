"""Ticket search over the neurons of a language model."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Unpack

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.commit import commit, keep_values
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import KINDS, NeuronGroup
from hf_untangle.architecture.projections import input_axis, weight_of
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.display import fields_repr
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_in_memory, remove_
from hf_untangle.nets.keywords import NeuronNetsSettings
from hf_untangle.nets.neuron_evolution import NeuronEvolution
from hf_untangle.nets.record import Generation
from hf_untangle.nets.search_config import NeuronNetsConfig
from hf_untangle.progress import track


@checked_calls
@dataclass(frozen=True, eq=False)
class NeuronTicket:
    """What a search over neurons found."""

    mask: NeuronMask
    """Which neurons stay."""
    adapters: dict[str, Tensor]
    """What each output projection's weight gains, [neuron, output]; empty without learning."""
    history: tuple[Generation, ...]
    forwards: int
    """What the search cost: blocks that went through the model, forward."""
    backwards: int
    """The same, backward."""
    seconds: float
    __repr__ = fields_repr

    def record(self) -> dict[str, Any]:
        """Everything but the tensors, ready for JSON."""
        return {
            "removed": {kind: self.mask.removed(kind) for kind in KINDS},
            "neurons": {kind: self.mask.neurons(kind) for kind in KINDS},
            "history": [asdict(one) for one in self.history],
            "forwards": self.forwards,
            "backwards": self.backwards,
            "seconds": self.seconds,
        }

    @torch.no_grad()
    def apply_(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add the adapters to the weights, and remove the neurons that do not stay.

        Args:
            model: The model that was searched, changed in place.

        Returns:
            The same model.

        Raises:
            MaskError: The mask is not this model's, or its weights cannot be edited.
        """
        groups = neuron_groups(model)
        check_in_memory(model, groups)
        self.mask.check_fits(groups, str(model.name_or_path))
        with commit() as undo:
            keep_values(undo, (weight_of(model.get_submodule(name)) for name in self.adapters))
            for name, gain in self.adapters.items():
                projection = model.get_submodule(name)
                weight = weight_of(projection)
                weight += (gain.T if input_axis(projection) == 1 else gain).to(weight)
            remove_(model, self.mask, groups)
            return model


@checked_arguments
@all_or_nothing
def search_neurons(
    model: PreTrainedModel | ModelName,
    retain: TokenBlocks,
    *,
    forget: TokenBlocks | None = None,
    groups: Sequence[NeuronGroup] | None = None,
    start: NeuronMask | None = None,
    config: NeuronNetsConfig | str = "default",
    progress: bool = True,
    **settings: Unpack[NeuronNetsSettings],
) -> NeuronTicket:
    """Evolve a mask over the neurons of a language model, with an adapter that learns in the loop where it is asked for.

    Args:
        model: A causal language model, left as it was. A name or path is loaded.
        retain: Blocks that individuals learn from and are judged on.
        forget: Blocks whose loss is to rise, weighed by the setting forget_weight.
        groups: Which neurons may go; all when None.
        start: A mask that the first generation varies, such as one from scores; drawn at random when None.
        config: Settings, or the name of a preset.
        progress: Whether to show a progress bar.
        **settings: Fields of `NeuronNetsConfig` that override `config`.

    Returns:
        The best individual of the last generation.

    Raises:
        ConfigError: A setting is unknown, out of its range, or at odds with another.
        StatisticsError: No individual reached a finite loss.
    """
    config, begun = NeuronNetsConfig.resolve(config, **settings), time.perf_counter()
    model = opened(model)
    evolution = NeuronEvolution(model, retain, config=config, forget=forget, groups=groups, start=start)
    with track("evolving", config.generations, unit="generation", progress=progress) as bar:
        for _ in range(config.generations):
            generation = evolution.advance()
            bar.say(f"fitness {generation.fitness:.3f}, {generation.density:.1%} kept")
            bar.update()
    blocks = config.population * config.batch_size * config.generations
    return NeuronTicket(
        mask=evolution.mask,
        adapters=evolution.adapters(),
        history=evolution.history,
        forwards=blocks * (config.steps + 1 + (forget is not None)),
        backwards=blocks * config.steps,
        seconds=time.perf_counter() - begun,
    )
