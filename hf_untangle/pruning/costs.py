"""What a layout costs: parameters, or the seconds of a forward pass on this machine, before any such model is made."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from hf_untangle.architecture.meta_models import skeleton
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.offload import input_device
from hf_untangle.arguments import checked_calls
from hf_untangle.compaction.config_search import plan_widths
from hf_untangle.compaction.target_widths import unit_of_neuron
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.layer_speed import fastest_in_turn, first_layers_, states_of
from hf_untangle.masks.mask import NeuronMask


@checked_calls
@dataclass(frozen=True, order=True)
class Reduction:
    """How much is taken out, in each of the layers that stay as much."""

    layers: int = 0
    """Whole layers."""
    heads: int = 0
    """Key-value groups, with their query heads, of every other layer."""
    neurons: int = 0
    """FFN neurons of every other layer, or of each of its experts."""


@dataclass(frozen=True)
class Sizes:
    """Numbers in the weights that belong to what can be taken out, on average over layers."""

    whole: int
    """Of the model."""
    layers: int
    """How many layers there are."""
    layer: float
    head: float
    neuron: float

    def of(self, cut: Reduction) -> float:
        """Tell how many are left.

        Args:
            cut: What is taken out.

        Returns:
            Parameters of the smaller model.
        """
        inside = cut.heads * self.head + cut.neurons * self.neuron
        return self.whole - cut.layers * self.layer - (self.layers - cut.layers) * inside


def sample_mask(groups: tuple[NeuronGroup, ...], everything: NeuronMask, cut: Reduction) -> NeuronMask:
    """Remove as much of each layer as a cut says, whichever it is: how fast a model is does not depend on that.

    Args:
        groups: The neuron groups of the model.
        everything: A mask that keeps all.
        cut: What goes; its layers do not matter.

    Returns:
        The mask.
    """
    kept: dict[str, Tensor] = {}
    for group in groups:
        if group.kind == "attention":
            kept[group.name] = unit_of_neuron(group) >= cut.heads
        else:
            kept[group.name] = torch.arange(group.size) % (group.size // (group.experts or 1)) >= cut.neurons
    return everything.with_kept(kept)


class Prefill:
    """The seconds of a forward pass over some blocks, of a few layers that are timed, for all of the model's."""

    FEW, MORE, ROUNDS = 1, 4, 5
    """Layers of the two models by which what a layer takes is told from what the embedding takes; and rounds."""

    def __init__(self, model: PreTrainedModel, groups: tuple[NeuronGroup, ...], everything: NeuronMask, shape: tuple[int, int]):
        """Time the layers as they are.

        Args:
            model: The model, of which only the configuration is used.
            groups: Its neuron groups.
            everything: A mask that keeps all.
            shape: Blocks in a pass, and tokens in a block.

        Raises:
            ConfigError: The model's layers do not run by themselves, so that none can be timed.
        """
        self._model, self._groups, self._everything, self._shape = model, groups, everything, shape
        self._count = int(model.config.get_text_config().num_hidden_layers)
        self._more = min(self.MORE, self._count)
        self._tokens = torch.zeros(shape, dtype=torch.long, device=input_device(model))
        try:
            self._original = self._runner(model.config, self._more)
            few, more = fastest_in_turn([self._runner(model.config, self.FEW), self._original], self.ROUNDS)
        except Exception as error:  # Whatever a model needs that a few of its layers lack.
            raise ConfigError(
                f"A speed can be planned for where a few layers run by themselves, but those of this {type(model).__name__} do "
                "not. Give a ratio, parameters or memory instead of a target."
            ) from error
        self._layer = max(more - few, 1e-9) / max(1, self._more - self.FEW)
        self._fixed = max(0.0, more - self._more * self._layer)
        self._ratios: dict[int, dict[int, float]] = {0: {0: 1.0}}

    def of(self, cut: Reduction) -> float:
        """Tell how long a pass takes, by what was timed, and in between by straight lines.

        Args:
            cut: What is taken out.

        Returns:
            Seconds.
        """
        return self._fixed + (self._count - cut.layers) * self._layer * self._ratio(cut)

    def measure(self, cut: Reduction) -> bool:
        """Time layers of exactly these widths, where that was not done yet.

        Args:
            cut: What is taken out.

        Returns:
            Whether anything new was learnt.
        """
        known = self._ratios.setdefault(cut.heads, {})
        if cut.neurons in known:
            return False
        small = self._runner(self._config(cut), self._more)
        before, after = fastest_in_turn([self._original, small], self.ROUNDS)
        known[cut.neurons] = max(after - self._fixed, 1e-9) / max(before - self._fixed, 1e-9)
        return True

    def _ratio(self, cut: Reduction) -> float:
        """How long such a layer takes, relative to one of the original."""
        known = self._ratios.get(cut.heads) or {}
        if not known:
            self.measure(Reduction(0, cut.heads, 0))
            known = self._ratios[cut.heads]
        below = max((one for one in known if one <= cut.neurons), default=None)
        above = min((one for one in known if one >= cut.neurons), default=None)
        if below is None or above is None:
            return known[min(known, key=lambda one: abs(one - cut.neurons))]
        share = 0.0 if above == below else (cut.neurons - below) / (above - below)
        return known[below] + share * (known[above] - known[below])

    def _config(self, cut: Reduction) -> PreTrainedConfig:
        """The configuration of layers of such widths."""
        mask = sample_mask(self._groups, self._everything, cut)
        kind = type(self._model)
        plan = plan_widths(kind, self._model.config, self._groups, mask, layout="uniform", round_to=None)
        if plan.left:
            pattern, reason = next(iter(plan.left.items()))
            raise ConfigError(
                f"A speed can be planned for where what is removed leaves the tensors, but that of `{pattern}` stays as zeros: "
                f"{reason}. Choose another unit."
            )
        return plan.config

    def _runner(self, config: PreTrainedConfig, layers: int) -> Callable[[], object]:
        """A pass through a few layers of a configuration."""
        hollow = skeleton(type(self._model), config)
        body = first_layers_(hollow, layers, self._model.dtype, self._tokens.device)
        return partial(_pass, body, self._tokens)


def _pass(body: PreTrainedModel, tokens: Tensor) -> None:
    """Run some layers once."""
    with torch.inference_mode():
        states_of(body, tokens)
