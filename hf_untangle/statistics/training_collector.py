"""Statistics of forward passes that somebody else runs, such as a training."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import KINDS, NeuronGroup
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.statistics.collect import rows_that_count
from hf_untangle.statistics.moments import MomentAccumulator, Moments
from hf_untangle.statistics.watching import observed


class PassCollector:
    """Sums up what neurons do in the passes that it is told to watch, one at a time.

    Hooks are on the model from `watch_next` to the end of the pass that follows, also when that pass fails. What is computed
    again in the backward pass, as activation checkpointing does, is therefore not counted twice.
    """

    def __init__(self, model: nn.Module, groups: Sequence[NeuronGroup], *, roots: bool = False) -> None:
        """Watch nothing yet.

        Args:
            model: The model that is called, with an adapter of peft or without.
            groups: Which neuron groups to watch.
            roots: Whether to sum sqrt|z| too, which the importance `sqrt` needs.
        """
        self._model = model
        self._groups = groups
        self._roots = roots
        self._hooks = ExitStack()
        self._counted: Bool[Tensor, " token"] | None = None
        self._tokens = 0
        self._sums: dict[str, MomentAccumulator] = {}

    def watch_next(self) -> None:
        """Watch the model's next forward pass."""
        self.stop()
        with ExitStack() as hooks:
            hooks.callback(self._model.register_forward_pre_hook(self._begin, with_kwargs=True).remove)
            hooks.callback(self._model.register_forward_hook(self._end, always_call=True).remove)
            self._hooks = hooks.pop_all()

    def stop(self) -> None:
        """Take all hooks off the model."""
        self._hooks.close()

    def take(self) -> dict[str, Moments]:
        """Hand the sums of all passes since the last time over, and begin anew.

        Returns:
            Moments of every group, on the CPU; of no token where a group did not run.
        """
        nothing = torch.device("cpu")
        moments = {}
        for group in self._groups:
            empty = MomentAccumulator(group.size, nothing, roots=self._roots, experts=group.experts)
            moments[group.name] = self._sums.get(group.name, empty).result(self._tokens)
        self._sums, self._tokens = {}, 0
        return moments

    def _begin(self, _: nn.Module, __: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See which tokens count, and put hooks on the neurons."""
        mask = kwargs.get("attention_mask")
        tokens = next(kwargs[name] for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None)
        self._counted = mask.flatten().bool() if mask is not None and mask.ndim == 2 else None
        self._tokens += tokens.shape[:2].numel() if self._counted is None else int(self._counted.sum())
        self._hooks.enter_context(observed(model_below(self._model), self._groups, self._add))

    def _end(self, *_: object) -> None:
        """Take the hooks off when the pass is over."""
        self.stop()

    @torch.no_grad()
    def _add(self, group: NeuronGroup, reading: Reading) -> None:
        """Add the activations of one group."""
        z = rows_that_count(reading, self._counted)
        if group.name not in self._sums:
            self._sums[group.name] = MomentAccumulator(group.size, z.device, roots=self._roots, experts=group.experts)
        self._sums[group.name].update(z.detach(), reading.neurons)


def overview(moments: dict[str, Moments], groups: Sequence[NeuronGroup]) -> dict[str, int | float]:
    """Say in a few numbers what neurons did.

    Args:
        moments: The sums of every group.
        groups: The groups.

    Returns:
        For each kind of neuron that there is, the mean of |z| over tokens and neurons (`ffn_mean_abs`), and the share of
        neurons that were above zero at no token (`ffn_silent`); and the number of tokens (`statistics_tokens`).
    """
    numbers: dict[str, int | float] = {"statistics_tokens": max(int(each.count) for each in moments.values())}
    for kind in KINDS:
        of_kind = [moments[group.name] for group in groups if group.kind == kind]
        if of_kind:
            means = torch.cat([each.absolute / max(1, int(each.count)) for each in of_kind])
            silent = torch.cat([each.positive == 0 for each in of_kind])
            numbers |= {f"{kind}_mean_abs": float(means.mean()), f"{kind}_silent": float(silent.double().mean())}
    return numbers
