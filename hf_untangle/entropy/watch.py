"""Neuron entropy while a model is trained: what neurons do on training and on evaluation data, counted as they go by."""

from contextlib import ExitStack
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from hf_untangle.architecture.expert_passes import Reading
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.entropy.overview import drift, entropy_quantiles
from hf_untangle.importance.entropy import always_off, always_on
from hf_untangle.statistics.hooks import observed
from hf_untangle.statistics.moments import MomentAccumulator, Moments

Phase = Literal["train", "eval"]


class BitWatch:
    """Sums up what neurons do on the batches of a training run, those of training apart from those of evaluation.

    It only looks: no random number is drawn and no activation is kept. Padding counts for nothing where the model is called
    with a two-dimensional attention mask.
    """

    def __init__(self, model: nn.Module, groups: tuple[NeuronGroup, ...]) -> None:
        """Begin to watch.

        Args:
            model: The model that is trained.
            groups: Its neuron groups, of which those of experts are passed over.
        """
        self._model = model
        self._sums: dict[Phase, dict[str, MomentAccumulator]] = {"train": {}, "eval": {}}
        self._counted: Bool[Tensor, " token"] | None = None
        self._hooks = ExitStack()
        with ExitStack() as stack:
            stack.callback(model.register_forward_pre_hook(self._read_mask, with_kwargs=True).remove)
            stack.enter_context(observed(model, [group for group in groups if group.experts is None], self._see))
            self._hooks = stack.pop_all()

    def close(self) -> None:
        """Take the hooks away."""
        self._hooks.close()

    def take(self, phase: Phase) -> dict[str, Moments]:
        """Give the sums of a phase and begin anew.

        Args:
            phase: Whether those of training or of evaluation.

        Returns:
            Moments by group; empty when the phase did not run.
        """
        sums, self._sums[phase] = self._sums[phase], {}
        return {name: one.result() for name, one in sums.items()}

    def _read_mask(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember which positions of the batch are no padding."""
        mask = kwargs.get("attention_mask")
        self._counted = mask.flatten().bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None

    @torch.no_grad()
    def _see(self, group: NeuronGroup, reading: Reading) -> None:
        """Add the activations of one group."""
        z = reading.values.detach().flatten(0, -2)
        if self._counted is not None and len(self._counted) == len(z):
            z = z[self._counted.to(z.device)]
        sums = self._sums["train" if self._model.training else "eval"]
        if group.name not in sums:
            sums[group.name] = MomentAccumulator(group.size, z.device)
        sums[group.name].update(z)


def scalars(moments: dict[str, Moments], phase: Phase) -> dict[str, float]:
    """Sum the entropies of a phase up in a few numbers.

    Args:
        moments: By group, not empty.
        phase: For the names.

    Returns:
        The quartiles of all neurons' entropies and of each group's median, and how many neurons are always on and always off.
    """
    lower, middle, upper = entropy_quantiles(moments)[1:4].tolist()
    values = {"lower_quartile": lower, "median": middle, "upper_quartile": upper}
    values["always_on"] = float(sum(int(always_on(one).sum()) for one in moments.values()))
    values["always_off"] = float(sum(int(always_off(one).sum()) for one in moments.values()))
    for group, one in moments.items():
        values[f"median/{group}"] = float(entropy_quantiles({group: one})[2])
    return {f"entropy/{phase}/{name}": value for name, value in values.items()}


def drift_scalars(train: dict[str, Moments], evaluation: dict[str, Moments]) -> dict[str, float]:
    """How far neurons drift from training to evaluation data, over all and in every group.

    Args:
        train: By group.
        evaluation: The same groups.

    Returns:
        Mean distances of the shares of tokens at which neurons are on.
    """
    values = {"entropy/drift": drift(train, evaluation)}
    return values | {f"entropy/drift/{group}": drift({group: one}, evaluation) for group, one in train.items()}
