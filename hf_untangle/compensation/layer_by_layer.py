"""A model run one layer at a time: each layer on what the layers before it have written, which is kept batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from accelerate.utils.operations import recursively_apply
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.forward import run_body
from hf_untangle.architecture.inference_mode import forward_replaced
from hf_untangle.architecture.offload import input_device
from hf_untangle.data.blocks import Blocks
from hf_untangle.errors import ArchitectureError

HOST = torch.device("cpu")
CLOSE = 1e-3
"""Outputs that differ by less, relative to the largest, are the same: kernels may round differently from pass to pass."""


class LayerByLayer:
    """Runs one layer of a stack at a time, on some batches.

    The model's own forward pass is run each time, so that masks and positions are what they always are; but layers before
    give what the last of them has written in an earlier pass, and layers behind pass on what they are given. What a batch needs
    between two layers is its hidden states, which are kept on the host.
    """

    def __init__(self, model: PreTrainedModel, stack: str, batches: Sequence[Blocks]) -> None:
        """Stand before the first layer.

        Args:
            model: A model, in evaluation mode.
            stack: Path of its stack of layers.
            batches: What it reads.

        Raises:
            ArchitectureError: The layers do not run once each, in their order, each on what the one before it has written.
        """
        self._model = model
        self._batches = batches
        self._layers = list(model.get_submodule(stack).children())
        self._written: list[Any] = [None] * len(batches)
        self._device = input_device(model)
        if batches:
            self._check(stack, batches[0])

    def __len__(self) -> int:
        """The number of layers."""
        return len(self._layers)

    def run(self, number: int) -> Iterator[tuple[Blocks, int]]:
        """Run one layer on every batch, for what happens in it.

        Args:
            number: Which layer, from 0; the one before it must have been left by `advance`.

        Yields:
            The batch that has run, and its number.
        """
        for index, batch in enumerate(self._batches):
            self._one(number, batch, self._written[index])
            yield batch, index

    def advance(self, number: int) -> None:
        """Run one layer on every batch, and keep what it writes for the next one.

        Args:
            number: Which layer.
        """
        for index, batch in enumerate(self._batches):
            self._written[index] = copied(self._one(number, batch, self._written[index]), HOST)

    def _one(self, number: int, batch: Blocks, before: Any) -> Any:
        """Run one layer on one batch."""
        seen: list[Any] = [None]

        def keep(_: nn.Module, __: object, output: Any) -> None:
            seen[0] = output

        given = copied(before, self._device_of(number))
        with ExitStack() as replaced:
            for layer in self._layers[:number]:
                replaced.enter_context(forward_replaced(layer, _giving(lambda: given)))
            for layer in self._layers[number + 1 :]:
                replaced.enter_context(forward_replaced(layer, _giving(lambda: seen[0])))
            replaced.callback(self._layers[number].register_forward_hook(keep).remove)
            run_body(self._model, batch.inputs(self._device))
        return seen[0]

    def _device_of(self, number: int) -> torch.device:
        """Where a layer runs; an offloaded one runs where all of its kind do."""
        own = next(self._layers[number].parameters(), None)
        return self._device if own is None or own.is_meta else own.device

    def _check(self, stack: str, batch: Blocks) -> None:
        """Refuse a model that gives something else when it is run this way."""
        order: list[int] = []
        outputs: dict[int, Any] = {}

        def keep(number: int) -> Callable[..., None]:
            def hook(_: nn.Module, __: object, output: Any) -> None:
                order.append(number)
                outputs[number] = output

            return hook

        with ExitStack() as hooks:
            for number, layer in enumerate(self._layers):
                hooks.callback(layer.register_forward_hook(keep(number)).remove)
            run_body(self._model, batch.inputs(self._device))
        last = len(self._layers) - 1
        in_order = order == list(range(last + 1))
        if in_order and last:
            again = self._one(last, batch, outputs[last - 1])
            in_order = _same(first_tensor(again), first_tensor(outputs[last]))
        if not in_order:
            raise ArchitectureError(
                f"Blocks are trained layer after layer, so each layer of `{stack}` must run once, on what the one before it "
                "has written, but they do not. Use compensate='least-squares'."
            )


def first_tensor(output: Any) -> Tensor:
    """What a layer or a block has written, which may come with other things.

    Args:
        output: A tensor, or a sequence that begins with it.

    Returns:
        The tensor.
    """
    return output if isinstance(output, Tensor) else first_tensor(output[0])


def copied(values: Any, device: torch.device) -> Any:
    """Copy tensors, as a model may write to what it is given, or what it has given.

    Args:
        values: Tensors in lists, tuples and dictionaries; anything else stays what it is.
        device: Where the copies are to be.

    Returns:
        The same with copies that hold no graph.
    """
    return recursively_apply(lambda one: one.detach().to(device, copy=True), values)


def _giving(output: Callable[[], Any]) -> Callable[..., Any]:
    """A forward function that computes nothing."""
    return lambda *_, **__: output()


def _same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two outputs differ by rounding alone."""
    return one.shape == other.shape and bool((one - other).abs().max() <= CLOSE * other.abs().max())
