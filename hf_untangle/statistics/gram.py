"""Second moments of neurons: how much each says about every other one of its group."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.offload import input_device
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.data.batch_size import BatchSize, first_size
from hf_untangle.data.blocks import Blocks
from hf_untangle.display import fields_repr
from hf_untangle.distributed import sum_, together
from hf_untangle.statistics.collect import forward_passes

AT_LEAST = 2**28
"""Bytes that the moments of one pass may take on any machine."""
SHARE = 0.3
"""The same as a share of the bytes of the weights, where that is more."""


@partial(checked_calls, nan=True)
@dataclass(frozen=True, eq=False)
class Gram:
    """Uncentered second moments of the neurons of one group on some tokens, one matrix per expert."""

    second: Float[Tensor, "expert neuron neuron"]
    """Sum over tokens of z z^T."""
    total: Float[Tensor, "expert neuron"]
    """Sum over tokens of z."""
    count: Float[Tensor, " expert"]
    """Tokens that were seen."""
    __repr__ = fields_repr

    @classmethod
    def empty(cls, group: NeuronGroup, device: torch.device) -> "Gram":
        """Moments of no token.

        Args:
            group: Whose.
            device: Where they are summed.

        Returns:
            Zeros in float32.
        """
        experts, width = shape_of(group)
        zeros = {"device": device, "dtype": torch.float32}
        sums = (torch.zeros(experts, width, width, **zeros), torch.zeros(experts, width, **zeros))
        return cls(*sums, torch.zeros(experts, **zeros))

    def add_(self, activations: Float[Tensor, "token neuron"], expert: int) -> None:
        """Add tokens.

        Args:
            activations: What the neurons of one expert were.
            expert: Which one; 0 where there are none.
        """
        values = activations.detach().float()
        self.second[expert].addmm_(values.T, values)
        self.total[expert] += values.sum(0)
        self.count[expert] += len(values)

    def mean_second(self, expert: int) -> Float[Tensor, "neuron neuron"]:
        """The mean over tokens of z z^T.

        Args:
            expert: Of which expert.

        Returns:
            In float64, on the CPU where the device has none; zeros where there was no token.
        """
        second, count = self.second[expert], self.count[expert].clamp_min(1).item()
        return (second.cpu() if second.device.type == "mps" else second).double() / count

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """All sums."""
        return self.second, self.total, self.count

    def __add__(self, other: "Gram") -> "Gram":
        """Merge the moments of two sets of tokens.

        Args:
            other: Moments of the same group.

        Returns:
            Those of both together.
        """
        second, total, count = (mine + its for mine, its in zip(self.tensors(), other.tensors(), strict=True))
        return Gram(second, total, count)


def shape_of(group: NeuronGroup) -> tuple[int, int]:
    """How many matrices a group has, and how many neurons each of them is about.

    Args:
        group: A neuron group.

    Returns:
        Experts, 1 where there are none, and neurons of each.
    """
    experts = group.experts or 1
    return experts, group.size // experts


@checked_arguments
def collect_grams(
    model: PreTrainedModel,
    blocks: Blocks,
    groups: Sequence[NeuronGroup],
    *,
    batch_size: BatchSize = 8,
    progress: bool = True,
) -> dict[str, Gram]:
    """Sum up the second moments of neurons over the tokens of a corpus that count.

    Sums are float32 and stay on the device of their neurons; no activation is kept. Several processes each run their share of
    the blocks, and all of them get the sums of all.

    Args:
        model: The model, which is left as it was.
        blocks: The tokens.
        groups: Which neuron groups; each takes 4 bytes times its width squared, so that few at a time may fit into memory.
        batch_size: Blocks in one forward pass; with "auto", as many as have 4,096 positions together.
        progress: Whether to show a progress bar.

    Returns:
        The moments of each group.
    """
    sums: dict[str, Gram] = {}
    mine, size = blocks.mine(), first_size(batch_size, blocks.width)

    def add(group: NeuronGroup, activations: Tensor, neurons: slice) -> None:
        if group.name not in sums:
            sums[group.name] = Gram.empty(group, activations.device)
        sums[group.name].add_(activations, (neurons.start or 0) // shape_of(group)[1])

    def of_my_blocks() -> None:
        batches = range(-(-len(mine.counted) // size))
        with (
            mine.bar("moments of", progress=progress, kind="statistics") as bar,
            forward_passes(model, groups, add, batches) as forward,
        ):
            for batch in mine.batches(size):
                forward(batch)
                bar.update(batch.tokens)

    together(of_my_blocks)
    for group in groups:
        gram = sums.setdefault(group.name, Gram.empty(group, input_device(model)))
        for tensor in gram.tensors():
            sum_(tensor)
    return sums


def passes_of(model: PreTrainedModel, groups: Sequence[NeuronGroup], copies: int) -> Iterator[tuple[NeuronGroup, ...]]:
    """Part groups so that the moments of those of one pass fit into memory beside the model.

    Args:
        model: The model.
        groups: Neuron groups, in any order.
        copies: How many sums of each group there are at a time.

    Yields:
        Groups of one pass, at least one: their moments take 30% of the memory of the weights, or 256 MiB where that is more.
    """
    budget = max(AT_LEAST, int(SHARE * sum(one.numel() * one.element_size() for one in model.parameters())))
    together_: list[NeuronGroup] = []
    taken = 0
    for group in groups:
        experts, width = shape_of(group)
        needed = copies * experts * width**2 * 4
        if together_ and taken + needed > budget:
            yield tuple(together_)
            together_, taken = [], 0
        together_.append(group)
        taken += needed
    if together_:
        yield tuple(together_)
