"""The law of compaction: the smaller model computes what the masked one does."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_untangle.architecture.dummy_inputs import dummy_inputs
from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import weight_of
from hf_untangle.compaction.compare_layers import distance, led_layers, noted_layers
from hf_untangle.compaction.config_search import Plan, plan_widths
from hf_untangle.compaction.edits import Edits, edits_of
from hf_untangle.compaction.target_widths import Layout
from hf_untangle.errors import CompactionError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.unrouted import unrouted

logger = logging.getLogger("hf_untangle")

TOKENS = 12
"""Length of the sequence that both models read."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 5e-2}
"""Largest norm of the difference of an output, relative to its own: far above rounding, far below any mistake."""

Assemble = Callable[[PreTrainedModel, PreTrainedConfig, Edits], PreTrainedModel]
"""Makes the smaller model from the larger one, a configuration and edits."""


def compact_verified(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    mask: NeuronMask,
    assemble: Assemble,
    *,
    layout: Layout,
    round_to: int | None,
) -> tuple[PreTrainedModel, Plan, Edits]:
    """Find the smallest model that can be made, and compare what it computes with the masked one before it is handed over.

    Where taking heads out changes what the others compute (their number is part of how positions are told, say), all stay.

    Args:
        model: The model, or its hollow twin.
        groups: Its neuron groups.
        mask: Which neurons stay, of every group.
        assemble: How the smaller model is made.
        layout: Whether layers may differ.
        round_to: FFN widths are multiples of this.

    Returns:
        The smaller model, its plan and its edits.

    Raises:
        CompactionError: Nothing of what was removed can be taken out.
    """
    for heads in (True, False):
        plan = plan_widths(type(model), model.config, groups, mask, layout=layout, round_to=round_to, heads=heads)
        _check_shrinks(plan, model, groups, mask, layout, heads=heads)
        edits = edits_of(model, groups, mask, plan.stays)
        small = assemble(model, plan.config, edits)
        if outputs_match(model, mask, small):
            for pattern, reason in plan.left.items():
                logger.warning("Removed neurons of `%s` stay as zeros: %s.", pattern, reason)
            return small, plan, edits
    raise CompactionError(
        f"The smaller {type(model).__name__} must compute what the masked one does, but it does not: something in its layers "
        "depends on their width in a way that is not understood. Keep the neurons as zeros with `remove_`."
    )


def outputs_match(model: PreTrainedModel, mask: NeuronMask, small: nn.Module) -> bool:
    """Compare the smaller model with the masked one on random inputs, layer by layer and at the end.

    Every layer gets the input that it has in the masked model, since a model from which much was removed can be chaotic: what
    is rounded in half precision in its first layer decides what its last one says.

    Args:
        model: The model, which is not changed.
        mask: Which of its neurons stay.
        small: The smaller model.

    Returns:
        Whether they agree up to rounding.
    """
    inputs = random_inputs(model)
    with evaluation_mode(model), evaluation_mode(small):
        with masked(model, mask, constants={}), noted_layers(model) as layers:
            expected = output_of(model, inputs)
        try:
            with led_layers(small, layers) as differences:
                differences.append(distance(output_of(small, inputs), expected))
        except (RuntimeError, ValueError, AttributeError, TypeError):  # The modules do not fit together.
            return False
    return max(differences) <= TOLERANCE.get(model.dtype, 5e-2)


def ends_match(model: PreTrainedModel, mask: NeuronMask, small: nn.Module, rest: NeuronMask) -> bool:
    """Compare what a model without some layers says on random inputs with what the masked one says.

    Args:
        model: The model, which is not changed.
        mask: Which of its neurons stay.
        small: The model without some layers, so that the others have new numbers.
        rest: Which neurons of the others stay.

    Returns:
        Whether they agree up to rounding.
    """
    inputs = random_inputs(model)
    with evaluation_mode(model), evaluation_mode(small):
        with masked(model, mask, constants={}):
            expected = output_of(model, inputs)
        try:
            with masked(small, rest, constants={}):
                difference = distance(output_of(small, inputs), expected)
        except (RuntimeError, ValueError, AttributeError, TypeError, IndexError):  # The modules do not fit together.
            return False
    return difference <= TOLERANCE.get(model.dtype, 5e-2)


def unrouted_matches(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], mask: NeuronMask, small: nn.Module) -> bool:
    """Compare a model without some experts on random inputs with the whole one, whose routers cannot choose them.

    Args:
        model: The model, which is not changed.
        groups: Its neuron groups.
        mask: Which of its neurons stay.
        small: The smaller model.

    Returns:
        Whether they agree up to rounding.
    """
    inputs = random_inputs(model)
    with evaluation_mode(model), evaluation_mode(small):
        try:
            with unrouted(model, groups, mask):
                expected = output_of(model, inputs)
            difference = distance(output_of(small, inputs), expected)
        except (RuntimeError, ValueError, AttributeError, TypeError, IndexError):  # The modules do not fit together.
            return False
    return difference <= TOLERANCE.get(model.dtype, 5e-2)


def random_inputs(model: PreTrainedModel) -> dict[str, Any]:
    """A sequence of tokens, or whatever the model reads, the same every time."""
    generator = torch.Generator().manual_seed(0)
    inputs = dummy_inputs(model, 1)
    for name, value in inputs.items():
        if name.endswith("input_ids"):
            size = weight_of(model.get_input_embeddings()).shape[0]
            inputs[name] = torch.randint(size, (1, TOKENS), generator=generator).to(model.device)
        elif isinstance(value, Tensor) and value.is_floating_point():
            inputs[name] = torch.randn(value.shape, generator=generator).to(value)
    return {name: value for name, value in inputs.items() if name not in ("attention_mask", "position_ids")}


@torch.no_grad()
def output_of(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """The logits, or the first of whatever the model gives."""
    output = model(**inputs)
    values = output.values() if isinstance(output, Mapping) else output
    return next(value for value in values if isinstance(value, Tensor)).float()


def _check_shrinks(
    plan: Plan, model: PreTrainedModel, groups: tuple[NeuronGroup, ...], mask: NeuronMask, layout: Layout, *, heads: bool
) -> None:
    """Refuse to call a model smaller that is not, and say what can be done: in the other layout something may go."""
    if plan.stays or not plan.left:
        return
    pattern, reason = next(iter(plan.left.items()))
    other: Layout = "uniform" if layout == "ragged" else "ragged"
    try:
        goes = plan_widths(type(model), model.config, groups, mask, layout=other, round_to=None, heads=heads).stays
    except CompactionError:
        goes = {}
    raise CompactionError(
        f"Nothing can be taken out of this {type(model).__name__}: the mask {mask.describe()}, but for `{pattern}` {reason}. "
        + (f"Use layout='{other}', or keep" if goes else "Keep")
        + " the neurons as zeros with `remove_`."
    )
