"""Compaction: a smaller model with the logits of the masked one."""

from typing import Any, TypeVar, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import check_without_adapters
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.compaction.assemble import assemble
from hf_untangle.compaction.depth import without_layers
from hf_untangle.compaction.edits import removed_neurons
from hf_untangle.compaction.lora import compact_with_lora, has_adapters
from hf_untangle.compaction.target_widths import Layout, mask_of_all
from hf_untangle.compaction.verify import compact_verified
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_in_memory
from hf_untangle.models import name_and_revision
from hf_untangle.ragged import enable_ragged_checkpoints

Model = TypeVar("Model", bound=nn.Module)


@checked_arguments
@all_or_nothing
@torch.no_grad()
def compact(
    model: Model | ModelName,
    mask: NeuronMask | None = None,
    *,
    groups: tuple[NeuronGroup, ...] | None = None,
    layout: Layout = "ragged",
    round_to: int | None = None,
) -> Model:
    """Take removed neurons out of the tensors of a model, so that it is smaller and faster, with the same logits.

    FFN neurons go one by one, attention neurons in whole key-value groups with all of their query heads, and a layer of which
    nothing stays goes whole. A whole FFN that was removed gets the width 0 in the ragged layout. What has to keep its place
    holds zeros, and a warning says so. Before the model is handed over, its outputs are compared with those of the masked
    model on a few tokens.

    Args:
        model: A model from transformers, in floating point, or a `peft.PeftModel` of one with LoRA adapters, which are cut
            too. It is left as it was, and shares its untouched tensors with the new one. A name or path is loaded.
        mask: Which neurons stay. When None, those that are removed are read off the weights, whose columns are zero.
        groups: Its neuron groups; found when None. Those without producers, as they are named by hand, keep their places.
        layout: `ragged`: every layer is as narrow as it can be; such a checkpoint loads with plain `from_pretrained` once
            `hf_untangle.compaction.enable_ragged_checkpoints()` was called. `uniform`: all layers get the width of the widest;
            such a checkpoint needs nothing of this package.
        round_to: FFN widths are rounded up to a multiple of this, which fast kernels like: 64, 128 or 256.

    Returns:
        The smaller model.

    Raises:
        MaskError: The mask is not this model's, or the weights are quantized or not loaded.
        CompactionError: The configuration of the model has no setting for such widths, or the layout is impossible.
    """
    model = opened(model)
    enable_ragged_checkpoints()
    if has_adapters(model):
        return compact_with_lora(model, mask, groups=groups, layout=layout, round_to=round_to)
    check_without_adapters(model)
    assert isinstance(model, PreTrainedModel)
    groups = neuron_groups(model) if groups is None else groups
    check_in_memory(model, groups)
    mask = removed_neurons(model, groups) if mask is None else mask_of_all(mask, groups, *name_and_revision(model))
    shorter = without_layers(model, groups, mask)
    if shorter.model is not model and not shorter.mask.removed():
        return cast(Model, shorter.model)
    how: dict[str, Any] = {"layout": layout, "round_to": round_to}
    return cast(Model, compact_verified(shorter.model, shorter.groups, shorter.mask, assemble, **how)[0])
