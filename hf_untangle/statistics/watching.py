"""Watching neurons while a model runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from torch import nn

from hf_untangle.architecture.hooks import intercepted
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import NeuronGroup

Observer = Callable[[NeuronGroup, Reading], None]
"""Called with a group and the input of its output projection on every forward pass (once per expert in MoE layers)."""
Watch = Callable[[nn.Module, Sequence[NeuronGroup], Observer], AbstractContextManager[nn.Module]]
"""Shows something of each group to an observer inside a `with` block, as `observed` shows activations."""


@contextmanager
def observed(model: nn.Module, groups: Sequence[NeuronGroup], observer: Observer) -> Iterator[nn.Module]:
    """Show every activation of some neuron groups to an observer inside the `with` block.

    Args:
        model: The model that the groups were found in.
        groups: Which groups to watch.
        observer: What to call.

    Yields:
        The same model.
    """
    with intercepted(model, {group.name: partial(observer, group) for group in groups}):
        yield model
