"""A crowd: many masked versions of one model, answered in a single forward pass of a repeated batch.

The weights are there once. What makes an individual is a mask on neurons, and a low-rank adapter of its own on every output
projection, both applied where the activations pass by.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from hf_untangle.architecture.hooks import intercepted
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import output_width
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.nets.genes import Genes


def neuron_genes(model: nn.Module, groups: Sequence[NeuronGroup], rank: int) -> Genes:
    """Lay the genes out: a place in the mask for every neuron, and the factors of an adapter for every output projection.

    Experts have no adapters.

    Args:
        model: The model.
        groups: Its neuron groups.
        rank: Of the adapters; 0 for none.

    Returns:
        Genes whose maskable part are the neurons; a neuron's own parameter means nothing.
    """
    shapes = {group.name: torch.Size([group.size]) for group in groups}
    for group in groups:
        if rank and group.experts is None:
            shapes[f"{group.name}/down"] = torch.Size([group.size, rank])
            shapes[f"{group.name}/up"] = torch.Size([rank, output_width(model.get_submodule(group.name))])
    maskable = torch.cat([torch.full((shape.numel(),), "/" not in name) for name, shape in shapes.items()])
    return Genes(shapes, maskable)


@dataclass(frozen=True, eq=False)
class Crowd:
    """Individuals of one model: masks over its neurons, and adapters."""

    model: nn.Module
    groups: tuple[NeuronGroup, ...]
    genes: Genes

    def losses(
        self, parameters: Float[Tensor, "individual gene"], kept: Bool[Tensor, "individual gene"], batch: TokenBlocks
    ) -> Float[Tensor, " individual"]:
        """Mean next-token loss of every individual on the same blocks, from one forward pass.

        Args:
            parameters: Adapters.
            kept: Masks.
            batch: The blocks.

        Returns:
            In nats per token.
        """
        individuals = len(kept)
        device = next(self.model.parameters()).device
        inputs = {name: value.repeat(individuals, 1) for name, value in batch.inputs(device).items()}
        with self._applied(parameters.to(device), kept.to(device), tokens=batch.input_ids.numel()):
            logits = self.model(**inputs, use_cache=False).logits[:, :-1]
        labels = batch.labels()[:, 1:].to(device).repeat(individuals, 1)
        losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none").view(individuals, -1)
        return losses.sum(1) / (labels != -100).view(individuals, -1).sum(1)

    @contextmanager
    def _applied(self, parameters: Tensor, kept: Tensor, *, tokens: int) -> Iterator[None]:
        """Mask and adapt inside the `with` block, row after row of the repeated batch."""
        masks = [self.genes.unflatten(row) for row in kept]
        adapters = [self.genes.unflatten(row) for row in parameters]
        stacked = {group.name: torch.stack([row[group.name] for row in masks]) for group in self.groups}
        with ExitStack() as hooks:
            silencers = {name: partial(_silence, mask, tokens) for name, mask in stacked.items()}
            hooks.enter_context(intercepted(self.model, silencers))
            for name in stacked:
                if f"{name}/down" in self.genes.shapes:
                    factors = [torch.stack([row[f"{name}/{part}"] for row in adapters]) for part in ("down", "up")]
                    adapt = partial(_adapt, *factors)
                    hooks.callback(self.model.get_submodule(name).register_forward_hook(adapt).remove)
            yield


def _silence(kept: Bool[Tensor, "individual neuron"], tokens: int, reading: Reading) -> Tensor:
    """Set to zero, in the rows of each individual, the neurons that it removes; each has so many tokens."""
    stays = kept[:, reading.neurons]
    if reading.tokens is not None:
        return reading.values.masked_fill(~stays[reading.tokens // tokens], 0)
    rows = reading.values.reshape(len(stays), -1, reading.values.shape[-1])
    return rows.masked_fill(~stays[:, None], 0).view(reading.values.shape)


def _adapt(down: Tensor, up: Tensor, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Add what each individual's adapter makes of its neurons."""
    neurons = args[0].reshape(len(down), -1, args[0].shape[-1])
    return output + (neurons @ down.to(neurons.dtype) @ up.to(neurons.dtype)).view(output.shape)
