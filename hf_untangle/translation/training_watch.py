"""What translation sees of a ReLU model while it is trained: linear regions that data visits, and whether its KAN is the same.

A token's activation pattern says for every neuron on which side of each knot of its activation it is; for a ReLU, whether it
is active. Tokens with one pattern lie in one linear region of the feed-forward blocks. While a model learns, patterns change:
how fast they do, and how many there are, shows when a network settles on its regions.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from hf_untangle.arguments import checked_calls
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer
from hf_untangle.translation.kan.elementwise import known_form
from hf_untangle.translation.kan.feed_forward import FeedForward, find_feed_forwards
from hf_untangle.translation.kan.leaf_calls import LeafCall, trace_calls
from hf_untangle.translation.kan.piecewise_linear import PiecewiseLinear
from hf_untangle.translation.three_layers.patterns import hashed, pack, unpack

FORMAT = "hf_untangle.activation-patterns/1"


@checked_calls
@dataclass(frozen=True)
class TrainingMeasures:
    """What one look at a model saw, on the same tokens as every other look."""

    regions: int
    """How many different activation patterns the tokens have."""
    moved: float
    """The share of tokens whose pattern is not that of the look before, from 0 to 1."""
    churn: float
    """The share of all bits of all patterns that are not those of the look before."""
    silent: float
    """The share of bits that are 0 at every token: of a ReLU, neurons that are never active."""
    kan_difference: float
    """The largest difference between a feed-forward block and its KAN layers on these tokens; 0 if they are the same. Under an
    adapter of peft, of the weights below it."""


class _PatternsRecord(FileRecord):
    """What a file of patterns says of them."""

    bits: int = Field(ge=1, le=1 << 32)
    """How many bits a pattern has."""


@checked_calls
class TrainingWatch:
    """Looks at a model again and again while it is trained, and remembers the patterns of the last look.

    A look runs the model in evaluation mode on fixed inputs, without gradients and without random numbers, so that training
    goes on to the last bit as if nobody had looked.
    """

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        """Choose what the model runs on.

        Args:
            inputs: Keyword arguments of the model: a batch of evaluation data. Positions where its `attention_mask` is 0 do
                not count, provided that the blocks run on all positions.

        Raises:
            ConfigError: There are none.
        """
        if not inputs:
            raise ConfigError(
                f"The inputs must be keyword arguments of the model, got {type(inputs).__name__}. Pass a batch such as "
                '{"input_ids": ...}.'
            )
        self.inputs = dict(inputs)
        self._blocks: list[FeedForward] = []
        self._last: Bool[Tensor, "token bit"] | None = None

    @torch.no_grad()
    def look(self, model: nn.Module) -> TrainingMeasures:
        """Run the model and compare its patterns with those of the last look.

        Args:
            model: The model, whose feed-forward blocks have piecewise linear activations.

        Returns:
            The measures; in the first look nothing has moved.

        Raises:
            StatisticsError: No activation is piecewise linear, or the blocks do not run on the same tokens.
            TranslationError: No feed-forward block was found, or one is gated.
        """
        inputs = {name: _on_device_of(model, value) for name, value in self.inputs.items()}
        self._blocks = self._blocks or _blocks_below(model, inputs)
        calls, _ = trace_calls(model, lambda: model(**inputs))
        bits = self._without_padding(_patterns(calls, {block.activation for block in self._blocks}))
        before = bits if self._last is None else self._last.to(bits.device)
        self._last = bits
        changed = bits != before
        return TrainingMeasures(
            regions=len(hashed(pack(bits)).unique()),
            moved=changed.any(1).double().mean().item(),
            churn=changed.double().mean().item(),
            silent=(~bits.any(0)).double().mean().item(),
            kan_difference=max(_kan_difference(model, block, calls) for block in self._blocks),
        )

    def check(self, model: nn.Module) -> None:
        """Find out whether a model can be looked at, and remember nothing of it.

        Args:
            model: The model, which runs once.

        Raises:
            StatisticsError: No activation is piecewise linear, or the blocks do not run on the same tokens.
            TranslationError: No feed-forward block was found, or one is gated.
        """
        last = self._last
        self.look(model)
        self._last, self._blocks = last, []

    def save(self, file: str | Path) -> None:
        """Write the patterns of the last look.

        Args:
            file: A safetensors file.

        Raises:
            OutputError: The file cannot be written.
        """
        assert self._last is not None, "there was a look"
        bits = self._last.cpu()
        write_tensors(file, {"patterns": pack(bits)}, kind=FORMAT, record={"bits": bits.shape[1]})

    def load(self, file: str | Path) -> None:
        """Go on from the look that `save` wrote.

        Args:
            file: A safetensors file.

        Raises:
            StatisticsError: The file was not written by this package.
        """
        content = read_tensors(file, kind=FORMAT, what="activation patterns", error=StatisticsError, record=_PatternsRecord)
        content.check_names({"patterns"})
        packed = content.take("patterns", (None, None), (torch.uint8,))
        if pack(torch.zeros(1, content.record.bits, dtype=torch.bool)).shape[1] != packed.shape[1]:
            raise content.expected.fault(f"patterns of {packed.shape[1]} bytes for {content.record.bits} bits")
        self._last = unpack(packed, content.record.bits)

    def _without_padding(self, bits: Bool[Tensor, "position bit"]) -> Bool[Tensor, "token bit"]:
        """The patterns of the tokens that count."""
        mask = self.inputs.get("attention_mask")
        return bits if mask is None or mask.numel() != len(bits) else bits[mask.flatten().bool().to(bits.device)]


def _blocks_below(model: nn.Module, inputs: Mapping[str, Any]) -> list[FeedForward]:
    """The feed-forward blocks of a model, or of the one below an adapter of peft, which adds to what their layers write."""
    with cast(Any, model).disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
        return find_feed_forwards(model, inputs)


def _on_device_of(model: nn.Module, value: Any) -> Any:
    """An input where the model's parameters are."""
    parameter = next(model.parameters(), None)
    return value.to(parameter.device) if isinstance(value, Tensor) and parameter is not None else value


def _patterns(calls: list[LeafCall], activations: set[str]) -> Bool[Tensor, "position bit"]:
    """On which side of every knot of its activation each neuron is, over all blocks."""
    watched = [(call, known_form(call.module)) for call in calls if call.name in activations]
    sides = [_sides(call.input, form) for call, form in watched if form is not None]
    if not sides or len({len(part) for part in sides}) > 1:
        kinds = sorted({type(call.module).__name__ for call, _ in watched})
        raise StatisticsError(
            f"Regions are those of piecewise linear activations that all run on the same tokens, but this model has {kinds} on "
            f"{sorted({call.input.shape[:-1].numel() for call, _ in watched})} tokens. Watch one part of it."
        )
    return torch.cat(sides, 1)


def _sides(x: Float[Tensor, "*batch neuron"], form: PiecewiseLinear) -> Bool[Tensor, "position bit"]:
    """One bit for every knot of every neuron: whether the neuron is above it."""
    return (x.flatten(0, -2).unsqueeze(-1) > form.knots.to(x)).flatten(1)


def _kan_difference(model: nn.Module, block: FeedForward, calls: list[LeafCall]) -> float:
    """How far the output of a block is from that of its KAN layer, made of the same Parameters."""
    by_name = {call.name: call for call in calls}
    project, activation = by_name[block.project], by_name[block.activation]
    assert isinstance(project.module, nn.Linear)  # or it would be no block
    layer = ActivationKANLayer(project.module, activation.module)
    with project.replay():
        again = layer(activation.input.to(project.input.dtype, copy=True))  # a projection may be kept in float32
    return (again.reshape(project.output.shape) - project.output).abs().max().item()
