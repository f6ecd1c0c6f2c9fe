"""Statistics of what the edges of KAN layers do on data, gathered in one pass without keeping any of it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import StatisticsError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, KANLayer

ROWS = 128
"""How many tokens are evaluated at once where every edge has a function of its own."""


@checked_calls
@dataclass(frozen=True)
class EdgeStatistics:
    """Means over tokens of what the edges of one layer give, each before its weight.

    Where edges are scaled activations, the first axis has size 1, because before their weights all edges of
    an input node are the same. So a block of d neurons costs 3 d numbers, and not 3 d for every output.
    """

    tokens: int
    """The number of tokens."""
    mean: Float[Tensor, "#output input"]
    """E phi."""
    mean_abs: Float[Tensor, "#output input"]
    """E|phi|."""
    mean_square: Float[Tensor, "#output input"]
    """E phi^2."""
    __repr__ = fields_repr


class EdgeMoments:
    """Sums over tokens that grow batch by batch, for the statistics of one layer."""

    def __init__(self, layer: KANLayer):
        """Start with no tokens.

        Args:
            layer: The layer whose edges are watched.
        """
        self.layer = layer
        self.tokens = 0
        self.sums: Float[Tensor, "moment output input"] | None = None

    @torch.no_grad()
    def update(self, x: Float[Tensor, "*batch input"]) -> None:
        """Add the tokens of one batch.

        Args:
            x: The input nodes of the layer; padding left out.
        """
        tokens = x.reshape(-1, x.shape[-1])
        for rows in [tokens] if isinstance(self.layer, ActivationKANLayer) else tokens.split(ROWS):
            phi = unweighted_edges(self.layer, rows)
            phi = phi.to(torch.promote_types(phi.dtype, torch.float32))
            sums = torch.stack([part.sum(0, dtype=torch.float64) for part in (phi, phi.abs(), phi.square())])
            self.sums = sums if self.sums is None else self.sums + sums
            self.tokens += len(rows)

    def result(self) -> EdgeStatistics:
        """Divide by the number of tokens.

        Returns:
            The statistics of all tokens so far, in float64.

        Raises:
            StatisticsError: If there were no tokens, or a sum is not finite.
        """
        if self.sums is None or self.tokens == 0:
            raise StatisticsError("No tokens reached this layer. Does the model use it on these inputs?")
        if not self.sums.isfinite().all():
            raise StatisticsError("The edges of this layer gave an infinity or a NaN on these inputs.")
        return EdgeStatistics(self.tokens, *self.sums / self.tokens)


@checked_arguments
@torch.no_grad()
def collect_edge_statistics(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> dict[str, EdgeStatistics]:
    """Gather the statistics of all KAN layers of a model while it runs over a corpus.

    Tokens that the attention mask of a batch marks as padding do not count.

    Args:
        model: A model with KAN layers, for example after `to_kan_`.
        batches: The keyword arguments of its forward passes.

    Returns:
        The statistics of every KAN layer by its name.

    Raises:
        StatisticsError: If the model has no KAN layers.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, KANLayer)}
    if not layers:
        raise StatisticsError(f"There are no KAN layers in this {type(model).__name__}. Call to_kan_ on it first.")
    moments = {name: EdgeMoments(layer) for name, layer in layers.items()}
    with evaluation_mode(model):
        for batch in batches:
            with _watched(model, moments, batch):
                model(**batch)
    return {name: moment.result() for name, moment in moments.items()}


@checked_arguments
def combine_statistics(parts: list[EdgeStatistics]) -> EdgeStatistics:
    """Join the statistics of one layer from several processes, or of several corpora.

    Args:
        parts: Statistics of the same layer on different tokens.

    Returns:
        Those of all tokens together.

    Raises:
        StatisticsError: If there are no parts, or they are of layers of different sizes.
    """
    if not parts or len({part.mean.shape for part in parts}) > 1:
        raise StatisticsError(f"Only statistics of one layer can be joined, got {len(parts)} of different sizes.")
    tokens = sum(part.tokens for part in parts)
    moments = [torch.stack([part.mean, part.mean_abs, part.mean_square]) * part.tokens for part in parts]
    return EdgeStatistics(tokens, *torch.stack(moments).sum(0) / tokens)


def unweighted_edges(layer: KANLayer, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch #output input"]:
    """Evaluate the edges of a layer without their weights.

    Args:
        layer: The layer.
        x: Its input nodes.

    Returns:
        The activations of the input nodes, which are the same for all outputs, or, where every edge has a
        function of its own, those functions.
    """
    if isinstance(layer, ActivationKANLayer):
        return layer.activation(x.clone()).unsqueeze(-2)
    return layer.edge_outputs(x)


@contextmanager
def _watched(model: nn.Module, moments: dict[str, EdgeMoments], batch: Mapping[str, Any]) -> Iterator[None]:
    """Add what reaches the layers of a model to their moments inside the `with` block."""
    with ExitStack() as hooks:
        for name, moment in moments.items():
            hook = partial(_update, moment, _padding_mask(model, name, batch))
            hooks.enter_context(moment.layer.register_forward_pre_hook(hook))
        yield


def _update(moment: EdgeMoments, mask: Tensor | None, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Add the tokens of one batch that are no padding."""
    x = inputs[0].flatten(0, -2)
    if mask is not None and mask.numel() != len(x):
        raise StatisticsError(f"The attention mask has {mask.numel()} positions, but a layer reads {len(x)} tokens.")
    moment.update(x if mask is None else x[mask.flatten().bool()])


def _padding_mask(model: nn.Module, name: str, batch: Mapping[str, Any]) -> Tensor | None:
    """The attention mask of the tokens that reach a layer, if the batch has one."""
    of_decoder = getattr(getattr(model, "config", None), "is_encoder_decoder", False) and "decoder" in name
    return batch.get("decoder_attention_mask" if of_decoder else "attention_mask")
