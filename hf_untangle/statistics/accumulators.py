"""Sums of every neuron group, in which a batch counts as a whole or not at all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from hf_untangle.architecture.hooks import intercepted
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.data.blocks import Blocks
from hf_untangle.statistics.moments import MomentAccumulator, Moments


class GroupSums:
    """One accumulator a group, each on the device of its neurons."""

    def __init__(self, groups: Sequence[NeuronGroup], *, roots: bool = False) -> None:
        """Start from nothing.

        Args:
            groups: The groups that may come.
            roots: Whether to sum sqrt|z| too.
        """
        self._groups = {group.name: group for group in groups}
        self._roots = roots
        self._kept: dict[str, MomentAccumulator] = {}
        self._batch: dict[str, MomentAccumulator] = {}

    def add(self, group: NeuronGroup, activations: Tensor, neurons: slice) -> None:
        """Add activations to the batch at hand.

        Args:
            group: Whose.
            activations: Of shape [token, neuron].
            neurons: Which neurons of the group they are.
        """
        if group.name not in self._batch:
            self._batch[group.name] = self._empty(group.name, activations.device)
        self._batch[group.name].update(activations, neurons)

    def whole(self, run: Callable[[Blocks], None]) -> Callable[[Blocks], None]:
        """Let what a batch adds count only once the batch has ended well.

        Args:
            run: Runs a batch, in which `add` is called.

        Returns:
            The same, with the batch added up in the end.
        """

        def run_whole(batch: Blocks) -> None:
            self._batch.clear()
            run(batch)
            for name, sums in self._batch.items():
                self._kept.setdefault(name, self._empty(name, sums.device)).absorb(sums)
            self._batch.clear()

        return run_whole

    def results(self, tokens: int) -> dict[str, Moments]:
        """Read all sums.

        Args:
            tokens: How many tokens there were, of which experts see only a part.

        Returns:
            The moments of each group that ran, on the CPU.
        """
        return {name: sums.result(tokens) for name, sums in self._kept.items()}

    def state(self) -> dict[str, Tensor]:
        """The sums as they are, on the CPU, from which `restore` continues bit for bit."""
        return {f"{name}/{part}": tensor for name, sums in self._kept.items() for part, tensor in sums.state().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from sums of before; the devices are those of the sums that are there.

        Args:
            state: What `state` gave.
        """
        for name, sums in self._kept.items():
            sums.restore({part: state[f"{name}/{part}"] for part in sums.state()})

    def _empty(self, name: str, device: torch.device) -> MomentAccumulator:
        """An accumulator without tokens."""
        group = self._groups[name]
        return MomentAccumulator(group.size, device, roots=self._roots, experts=group.experts)


Observer = Callable[[NeuronGroup, Reading], None]
"""Called with a group and the input of its output projection on every forward pass (once per expert in MoE layers)."""
Watch = Callable[[nn.Module, Sequence[NeuronGroup], Observer], AbstractContextManager[nn.Module]]
"""Shows something of each group to an observer inside a `with` block, as `observed` shows activations."""


@contextmanager
def observed(model: nn.Module, groups: Sequence[NeuronGroup], observer: Observer) -> Iterator[nn.Module]:
    """Show every activation of some neuron groups to an observer inside the `with` block.

    The observer computes in the dtypes of its own tensors, also where the model runs under autocast.

    Args:
        model: The model that the groups were found in.
        groups: Which groups to watch.
        observer: What to call.

    Yields:
        The same model.
    """
    with intercepted(model, {group.name: partial(_show, observer, group) for group in groups}):
        yield model


def _show(observer: Observer, group: NeuronGroup, reading: Reading) -> None:
    """Show one reading. Under autocast sums over tokens would be products of 8 bits."""
    with torch.autocast(reading.values.device.type, enabled=False):
        observer(group, reading)
