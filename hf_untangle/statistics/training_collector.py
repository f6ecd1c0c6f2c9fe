"""Statistics of the forward passes that a training or an evaluation runs."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from hf_untangle.architecture.compiled import eagerly
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import KINDS, NeuronGroup
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.data.documents import IGNORED
from hf_untangle.models import revision_of
from hf_untangle.statistics.accumulators import observed
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import rows_that_count
from hf_untangle.statistics.moments import MomentAccumulator, Moments


class PassCollector:
    """Sums up what neurons do in passes that a training or an evaluation runs.

    From `watch` to `stop` every pass is watched, and `count` adds the last one to the sums; so a pass that is neither, such as
    that of another callback, is left out. What the backward pass computes again, as activation checkpointing does, is not
    counted twice. Compiled models run uncompiled while they are watched.
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
        self._has_two_stacks = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
        self._hooks, self._pass = ExitStack(), ExitStack()
        self._counted: Mapping[bool, Bool[Tensor, " token"] | None] = {}
        self._last = _Sums()
        self._all = _Sums()

    def watch(self) -> None:
        """Watch the model's forward passes from now on. Call it outside compiled code."""
        self.stop()
        with ExitStack() as hooks:
            hooks.enter_context(eagerly())
            hooks.callback(self._model.register_forward_pre_hook(self._begin, with_kwargs=True).remove)
            hooks.callback(self._model.register_forward_hook(self._end, always_call=True).remove)
            self._hooks = hooks.pop_all()

    def stop(self) -> None:
        """Take all hooks off the model, and forget a pass that was not counted."""
        self._pass.close()
        self._hooks.close()
        self._last = _Sums()

    def count(self) -> None:
        """Add the last pass that was watched to the sums, unless it is in them already."""
        self._all.absorb(self._last)
        self._last = _Sums()

    def take(self) -> dict[str, Moments]:
        """Hand over the sums of all passes that were counted since the last time, and begin anew.

        Returns:
            Moments of every group, on the CPU; of no token where a group did not run.
        """
        taken, self._all = self._all, _Sums()
        return {group.name: taken.moments(group, roots=self._roots) for group in self._groups}

    def _begin(self, _: nn.Module, __: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See which tokens count, and put hooks on the neurons."""
        self._last = _Sums()
        counted = _tokens_that_count(kwargs.get("attention_mask"))
        if not self._has_two_stacks and getattr(model_below(self._model), "can_generate", bool)():
            counted = _answers_among(counted, kwargs)
        self._counted = {False: counted, True: _decoder_tokens_that_count(kwargs) if self._has_two_stacks else counted}
        tokens = next((kwargs[name] for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None), None)
        if counted is not None:
            self._last.tokens = int(counted.sum())
        elif tokens is not None:
            self._last.tokens = tokens.shape[:2].numel()
        self._pass.enter_context(observed(model_below(self._model), self._groups, self._add))

    def _end(self, *_: object) -> None:
        """Take the hooks off the neurons when the pass is over."""
        self._pass.close()

    @torch.no_grad()
    def _add(self, group: NeuronGroup, reading: Reading) -> None:
        """Add the activations of one group."""
        z = rows_that_count(reading, self._counted_in(group, reading))
        sums = self._last.of_groups
        if group.name not in sums:
            sums[group.name] = MomentAccumulator(group.size, z.device, roots=self._roots, experts=group.experts)
        sums[group.name].update(z.detach(), reading.neurons)

    def _counted_in(self, group: NeuronGroup, reading: Reading) -> Bool[Tensor, " token"] | None:
        """Which tokens of a group count; all where it reads other positions than the mask has, as speech encoders do."""
        counted = self._counted["decoder" in group.name.split(".")]
        rows = reading.values.shape[:-1].numel()
        return counted if counted is None or reading.tokens is not None or rows == len(counted) else None


def _tokens_that_count(mask: Any) -> Bool[Tensor, " token"] | None:
    """The tokens of a batch that are no padding; None where all count, or the mask says something else."""
    return mask.flatten().bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _answers_among(counted: Bool[Tensor, " token"] | None, kwargs: dict[str, Any]) -> Bool[Tensor, " token"] | None:
    """The tokens of those that count which a causal model is trained on; all of them where labels are of something else."""
    labels, ids = kwargs.get("labels"), kwargs.get("input_ids")
    if labels is None or ids is None or labels.shape != ids.shape:
        return counted
    trained = (labels != IGNORED).flatten()
    return trained if counted is None else trained & counted.to(trained.device)


def _decoder_tokens_that_count(kwargs: dict[str, Any]) -> Bool[Tensor, " token"] | None:
    """The same for the decoder of a model with two stacks, which reads the labels, moved by one."""
    labels = kwargs.get("labels")
    given = _tokens_that_count(kwargs.get("decoder_attention_mask"))
    return given if given is not None or labels is None else _tokens_that_count(labels != IGNORED)


@dataclass(eq=False)
class _Sums:
    """What neurons did in some passes."""

    tokens: int = 0
    of_groups: dict[str, MomentAccumulator] = field(default_factory=dict)

    def absorb(self, other: "_Sums") -> None:
        """Add other passes."""
        self.tokens += other.tokens
        for name, sums in other.of_groups.items():
            if name in self.of_groups:
                self.of_groups[name].absorb(sums)
            else:
                self.of_groups[name] = sums

    def moments(self, group: NeuronGroup, *, roots: bool) -> Moments:
        """The sums of one group."""
        empty = MomentAccumulator(group.size, torch.device("cpu"), roots=roots, experts=group.experts)
        return self.of_groups.get(group.name, empty).result(self.tokens)


def overview(moments: dict[str, Moments], groups: Sequence[NeuronGroup]) -> dict[str, int | float]:
    """Say in a few numbers what neurons did.

    Args:
        moments: The sums of every group.
        groups: The groups.

    Returns:
        For each kind of neuron that there is, the mean of |z| over tokens and neurons (`ffn_mean_abs`), and the share of
        neurons that were above zero at no token (`ffn_silent`); and the number of tokens (`tokens`).
    """
    numbers: dict[str, int | float] = {"tokens": max(int(each.count) for each in moments.values())}
    for kind in KINDS:
        of_kind = [moments[group.name] for group in groups if group.kind == kind]
        if of_kind:
            means = torch.cat([each.absolute / max(1, int(each.count)) for each in of_kind])
            silent = torch.cat([each.positive == 0 for each in of_kind])
            numbers |= {f"{kind}_mean_abs": float(means.mean()), f"{kind}_silent": float(silent.double().mean())}
    return numbers


def of_training_step(moments: dict[str, Moments], model: nn.Module, step: int) -> ActivationStatistics | None:
    """Make statistics of the sums of one optimizer step.

    Args:
        moments: The sums of every group, over all passes and processes.
        model: The model that is trained, with an adapter of peft or without.
        step: The number of the step.

    Returns:
        The statistics, which say where they come from; None when an activation was infinite or NaN, after which nothing that
        they are added to would be a number.
    """
    if not all(sums.is_finite() for sums in moments.values()):
        return None
    below = model_below(model)
    record = {"corpus": "training batches", "step": step, "tokens": max(int(sums.count) for sums in moments.values())}
    dtype = str(below.dtype).removeprefix("torch.")
    return ActivationStatistics(moments, str(below.name_or_path), revision_of(below), dtype, (record,))
