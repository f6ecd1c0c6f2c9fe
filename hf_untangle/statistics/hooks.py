"""Watching neurons while a model runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup

Observer = Callable[[NeuronGroup, Tensor], None]
"""Called with a group and the input of its output projection, of shape [..., neuron], each time the projection runs."""
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

    def show(group: NeuronGroup, _: nn.Module, args: tuple[Any, ...]) -> None:
        observer(group, args[0])

    with ExitStack() as hooks:
        for group in groups:
            handle = model.get_submodule(group.name).register_forward_pre_hook(partial(show, group))
            hooks.callback(handle.remove)
        yield model
