"""The loss of a method on a few rows of both corpora: L = gamma * forget + alpha * retain."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.offload import input_device
from hf_untangle.data.answers import second_halves
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.kl_to_original import TopLogits
from hf_untangle.methods.alternatives import alternative_blocks
from hf_untangle.methods.forget_objectives import FORGET_OBJECTIVE, FORGET_OVER_ROWS, Seen
from hf_untangle.methods.predictions import unit_direction
from hf_untangle.methods.references import predictions_of, reference_logits, reference_losses
from hf_untangle.methods.registry import Method
from hf_untangle.methods.retain_objectives import RETAIN_OBJECTIVE, RETAIN_OVER_ROWS, Kept
from hf_untangle.methods.rows import TRAINING_TOP, Rows, counted_tokens, hidden_states, original_hidden, predicting

Use = Literal["forget", "retain"]
"""What rows are for."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Both objectives of a method, with the rows that they are taken on."""

    method: Method
    forget: Rows
    retain: Rows
    layer: str | None = None
    """Name of the layer whose hidden states are read."""
    direction: Float[Tensor, " width"] | None = None
    """The unit vector that RMU steers to."""

    def forget_loss(self, model: nn.Module, rows: Rows) -> Float[Tensor, ""]:
        """The forget objective on some rows.

        Args:
            model: The model.
            rows: Rows of `forget`.

        Returns:
            The loss, with a graph.
        """
        assert self.method.forget is not None
        if self.method.forget == "rmu":
            hidden = hidden_states(model, self._layer(), rows.blocks)
            counted = counted_tokens(rows.blocks).to(hidden.device)
            seen = Seen(hidden=hidden, counted=counted, direction=self.direction)
        else:
            other = rows.alternative
            seen = Seen(
                predictions_of(model, rows.blocks),
                _on(rows.losses, model),
                _top(rows, model),
                None if other is None else predictions_of(model, other.blocks),
                None if other is None else _on(other.losses, model),
            )
        return FORGET_OBJECTIVE[self.method.forget](seen, self.method.strengths)

    def retain_loss(self, model: nn.Module, rows: Rows) -> Float[Tensor, ""]:
        """The retain objective on some rows.

        Args:
            model: The model.
            rows: Rows of `retain`.

        Returns:
            The loss, with a graph; zero where the method has none.
        """
        if self.method.retain == "none":
            kept = Kept()
        elif self.method.retain == "hidden":
            hidden = hidden_states(model, self._layer(), rows.blocks)
            counted = counted_tokens(rows.blocks).to(hidden.device)
            kept = Kept(hidden=hidden, original_hidden=_on(rows.hidden, model), counted=counted)
        else:
            kept = Kept(predictions_of(model, rows.blocks), _top(rows, model))
        return RETAIN_OBJECTIVE[self.method.retain](kept)

    def sizes(self, use: Use, which: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """What rows count for in a mean over several of them.

        Args:
            use: Whose rows.
            which: Their numbers.

        Returns:
            Their tokens that are predicted, or one each where the objective is a mean over rows.
        """
        rows, objective = (self.forget, self.method.forget) if use == "forget" else (self.retain, self.method.retain)
        if objective in FORGET_OVER_ROWS | RETAIN_OVER_ROWS:
            return torch.ones(len(which))
        return Rows(rows.blocks.rows(which)).predicted.float()

    def _layer(self) -> str:
        """The layer, which objectives of hidden states need."""
        assert self.layer is not None
        return self.layer


@dataclass(frozen=True)
class Ask:
    """What has to be known to ask the original for what a method needs of it."""

    groups: tuple[NeuronGroup, ...]
    """The model's neuron groups, which tell where its layers are."""
    tokenizer: PreTrainedTokenizerBase
    """Makes rows of alternative answers."""
    layer: int
    """Number of the layer for objectives of hidden states."""
    alternatives: tuple[str, ...] | None
    """Answers that DPO prefers; refusals when None."""
    batch_size: int
    """Rows in a forward pass."""
    seed: int
    """For the direction of RMU and the choice of alternatives."""


def prepare(model: nn.Module, method: Method, forget: TokenBlocks, retain: TokenBlocks, ask: Ask) -> Objective:
    """Ask the original model once for everything that a method will need of it.

    Args:
        model: The model before the method's first step.
        method: The method.
        forget: Rows that are forgotten.
        retain: Rows that are retained.
        ask: How.

    Returns:
        The objective, which holds no second model.

    Raises:
        ConfigError: The method needs a layer or alternatives, and there are none that fit.
    """
    forget, retain = (predicting(blocks) for blocks in (forget, retain))
    per_token = method.strengths.per_token
    name = layer_name(ask.groups, ask.layer) if method.forget == "rmu" or method.retain == "hidden" else None

    def losses(blocks: TokenBlocks) -> Tensor | None:
        if method.reference != "losses":
            return None
        return reference_losses(model, blocks, per_token=per_token, batch_size=ask.batch_size)

    def logits(blocks: TokenBlocks) -> tuple[TopLogits, ...]:
        return tuple(reference_logits(model, blocks, batch_size=ask.batch_size, top=TRAINING_TOP))

    other = None
    if method.forget == "dpo":
        forget = second_halves(forget)
        blocks = alternative_blocks(forget, ask.tokenizer, ask.alternatives, seed=ask.seed)
        other = Rows(blocks, losses(blocks))
    gone = Rows(forget, losses(forget), logits(forget) if method.reference == "logits" else None, alternative=other)
    kept = Rows(
        retain,
        top=logits(retain) if method.retain == "kl" else None,
        hidden=original_hidden(model, name, retain, batch_size=ask.batch_size) if name and method.retain == "hidden" else None,
    )
    direction = None
    if method.forget == "rmu" and name:
        with torch.no_grad():
            width = hidden_states(model, name, forget.first(1)).shape[-1]
        direction = unit_direction(width, ask.seed)
    return Objective(method, gone, kept, name, direction)


def layer_name(groups: tuple[NeuronGroup, ...], layer: int) -> str:
    """Find a layer by its number.

    Args:
        groups: The model's neuron groups.
        layer: Its number, from 0.

    Returns:
        The name of the layer's module.

    Raises:
        ConfigError: The model has no such layer.
    """
    stack = groups[-1].stack
    layers = 1 + max(group.layer for group in groups if group.stack == stack)
    if not 0 <= layer < layers:
        raise ConfigError(
            f"`layer` must be one of the model's {layers} layers, 0 to {layers - 1}, got {layer}. Choose one of them."
        )
    return f"{stack}.{layer}"


def _on(tensor: Tensor | None, model: nn.Module) -> Tensor | None:
    """A tensor where the model's output is."""
    return None if tensor is None else tensor.to(input_device(model))


def _top(rows: Rows, model: nn.Module) -> TopLogits | None:
    """What the original predicted, where the model's output is."""
    return None if rows.top is None else TopLogits.joined(rows.top).to(input_device(model))
