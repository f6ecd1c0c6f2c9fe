"""Find the neurons of a model: every FFN down projection and attention output projection, with what computes them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.modes import evaluation_mode
from hf_untangle.architecture.neurons import Kind, NeuronGroup, Producer
from hf_untangle.architecture.trace import (
    BASE,
    DIGITS,
    NEUTRAL,
    POSITIONS,
    Block,
    Projection,
    digits_of,
    find_blocks,
    trace,
)
from hf_untangle.errors import ArchitectureError

NEGLIGIBLE = 1e-3
"""Gradients below this share of the largest are rounding, such as those of equal queries and keys."""


def neuron_groups(model: nn.Module) -> tuple[NeuronGroup, ...]:
    """Find every neuron of a model.

    A projection inside a block is an output projection exactly when it writes the width of the residual stream and reads
    only what other projections of its block computed, never the residual stream itself. It belongs to attention when what
    it reads at one position depends on other positions, and to an FFN otherwise. Both are read off one forward pass on
    dummy tokens (see `trace`), so that nothing is known here about particular models.

    Args:
        model: A decoder from transformers, on a real device.

    Returns:
        The neuron groups in the order in which they run.

    Raises:
        ArchitectureError: The model has no weights yet (meta device), or no neurons were found in it.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ArchitectureError(
            "The model must have its weights loaded, but some of them are on the meta device. Load it whole with "
            "`from_pretrained`, without offloading, or call `to_empty` and `load_state_dict` first."
        )
    blocks = find_blocks(model)
    # Gradients are what everything is read off, also where the caller has switched them off.
    with evaluation_mode(model), torch.inference_mode(False), torch.enable_grad():
        if blocks:
            trace(model, blocks, _dummy_inputs(model))
        groups = tuple(group for block in blocks for group in _groups_of(block, _heads(model)))
    if not groups:
        raise ArchitectureError(
            f"No neurons were found in {type(model).__name__}: no stack of layers in it has a projection back to the "
            "residual stream that reads what other projections of its layer computed."
        )
    return groups


def _dummy_inputs(model: nn.Module) -> dict[str, Tensor | bool]:
    """Sequences of two tokens, as many as a code needs."""
    device = next(model.parameters()).device
    tokens = torch.ones(1 + DIGITS, POSITIONS, dtype=torch.long, device=device)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "use_cache": False}


def _heads(model: nn.Module) -> int | None:
    """The number of query heads that the model's configuration states."""
    config = model.config.get_text_config() if isinstance(model, PreTrainedModel) else None
    return getattr(config, "num_attention_heads", None)


def _groups_of(block: Block, heads: int | None) -> list[NeuronGroup]:
    """The neuron groups of one block, in the order in which they ran."""
    groups = []
    for index, projection in enumerate(block.projections):
        ancestors = _ancestors(projection, block, block.projections[:index])
        if not ancestors:
            continue
        if _mixes_positions(ancestors):
            kind, producers = "attention", _value_rows(projection, ancestors)
        else:
            kind, producers = "ffn", _elementwise_rows(projection, ancestors)
        if producers:
            groups.append(_group(projection, kind, block, producers, heads if kind == "attention" else None))
    return groups


def _group(projection: Projection, kind: Kind, block: Block, producers: tuple[Producer, ...], heads: int | None) -> NeuronGroup:
    """Put a group together, and check that its neurons divide into heads."""
    size = projection.neurons.shape[-1]
    if heads is not None and size % heads:
        raise ArchitectureError(
            f"The {size} attention neurons of `{projection.name}` must divide into the {heads} heads that the "
            "configuration states, but they do not. Is the configuration this model's own?"
        )
    return NeuronGroup(projection.name, kind, block.layer, size, producers, heads)


@dataclass(frozen=True, eq=False)
class Ancestor:
    """A projection that some neurons are computed from directly."""

    projection: Projection
    gradient: Float[Tensor, "position row"]
    """Gradient of the sum of those neurons at the last position, in the first sequence."""

    def active_rows(self, largest: Float[Tensor, ""]) -> Int[Tensor, " row"]:
        """The rows that pass a gradient on at the last position."""
        return (self.gradient[-1].abs() > NEGLIGIBLE * largest).nonzero().flatten()


def _ancestors(projection: Projection, block: Block, earlier: list[Projection]) -> list[Ancestor]:
    """What an output projection is computed from; nothing when this is no output projection."""
    residual = block.residual
    if residual is None or not projection.neurons.requires_grad or projection.output.shape[-1] != residual.shape[-1]:
        return []
    leaves = [residual, *(one.output for one in earlier)]
    on_residual, *gradients = _gradients(projection, torch.ones(projection.neurons.shape[-1]), leaves)
    if on_residual is not None:
        return []
    return [
        Ancestor(one, _first_sequence(gradient).float().cpu())
        for one, gradient in zip(earlier, gradients, strict=True)
        if gradient is not None
    ]


def _gradients(projection: Projection, weights: Float[Tensor, " neuron"], leaves: list[Tensor]) -> list[Tensor | None]:
    """Gradients of a weighted sum of the neurons at the last position of the first sequence."""
    neurons = _first_sequence(projection.neurons)[-1]
    weighted = neurons @ weights.to(neurons)
    return list(torch.autograd.grad(weighted, leaves, retain_graph=True, allow_unused=True))


def _first_sequence(values: Tensor) -> Float[Tensor, "position width"]:
    """The sequence in which every projection wrote NEUTRAL, also where tokens are flattened."""
    return values.reshape(1 + DIGITS, POSITIONS, values.shape[-1])[0]


def _largest(ancestors: list[Ancestor]) -> Float[Tensor, ""]:
    """The largest gradient of all."""
    return torch.stack([ancestor.gradient.abs().max() for ancestor in ancestors]).max()


def _mixes_positions(ancestors: list[Ancestor]) -> bool:
    """Tell whether the last position reads anything of the first, which attention does and an FFN does not."""
    negligible = NEGLIGIBLE * _largest(ancestors)
    return any(bool(ancestor.gradient[0].abs().max() > negligible) for ancestor in ancestors)


def _value_rows(projection: Projection, ancestors: list[Ancestor]) -> tuple[Producer, ...]:
    """Read the number of the value row that arrived at each neuron of an attention block."""
    sequences = projection.neurons.detach().reshape(1 + DIGITS, POSITIONS, -1)[:, -1].float().cpu()
    rows = _number((sequences[1:] / sequences[0] * NEUTRAL).round().long())
    largest = _largest(ancestors)
    return tuple(
        Producer(ancestor.projection.name, rows)
        for ancestor in ancestors
        if torch.equal(rows.unique(), ancestor.active_rows(largest))
    )


def _elementwise_rows(projection: Projection, ancestors: list[Ancestor]) -> tuple[Producer, ...]:
    """Find which neuron of an FFN each row computes: weigh neurons by the digits of their number, and see what arrives."""
    size = projection.neurons.shape[-1]
    leaves = [ancestor.projection.output for ancestor in ancestors]
    weights = 1 + digits_of(torch.arange(size))
    weighted = [_gradients(projection, digit.float(), leaves) for digit in weights]
    largest = _largest(ancestors)
    producers: list[Producer] = []
    for index, ancestor in enumerate(ancestors):
        rows = ancestor.active_rows(largest)
        gradients = [gradient[index] for gradient in weighted]
        arrived = torch.stack([_first_sequence(part)[-1].float().cpu() for part in gradients if part is not None])
        neurons = _number((arrived[:, rows] / ancestor.gradient[-1, rows] - 1).round().long())
        producers += _one_row_each(ancestor.projection.name, rows, neurons, size)
    return tuple(producers)


def _one_row_each(name: str, rows: Int[Tensor, " row"], neurons: Int[Tensor, " row"], size: int) -> tuple[Producer, ...]:
    """Split the rows of a projection so that every part computes each neuron once (a fused gate and up gives two)."""
    times, rest = divmod(len(rows), size)
    order = neurons.argsort(stable=True)
    if rest or not torch.equal(neurons[order], torch.arange(size).repeat_interleave(times)):
        raise ArchitectureError(
            f"Every neuron of an FFN must be computed by the same number of rows of `{name}`, but {len(rows)} of its rows "
            f"reach {size} neurons unevenly. This kind of FFN is not understood."
        )
    return tuple(Producer(name, part) for part in rows[order].view(size, times).T.contiguous())


def _number(digits: Int[Tensor, "digit n"]) -> Int[Tensor, " n"]:
    """Put numbers together from their digits."""
    return (digits * BASE ** torch.arange(DIGITS)[:, None]).sum(0)
