"""Whether a type of model can be made smaller: compaction tried out on a tiny model, saved and loaded."""

from dataclasses import dataclass, field
from typing import get_args

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.compaction.assemble import assemble
from hf_untangle.compaction.target_widths import Layout
from hf_untangle.compaction.verify import compact_verified
from hf_untangle.errors import UntangleError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.ragged import enable_ragged_checkpoints
from hf_untangle.survey.invariants import Inputs, outputs, reloads

LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True)
class Smaller:
    """Whether a model can be made smaller in one layout."""

    why_not: str = ""
    """Nothing when the smaller model is the same once it was saved and loaded; the reason otherwise."""
    left: dict[str, str] = field(default_factory=dict)
    """By pattern of groups: why what was removed there still has its place, as zeros."""


def made_smaller(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], inputs: Inputs, layout: Layout) -> Smaller:
    """Compact a model without the mask that `narrow_mask` makes, save it, and load it again.

    Args:
        model: A tiny model, which is left as it was.
        groups: Its neuron groups.
        inputs: What to call it with.
        layout: Whether layers may differ in width.

    Returns:
        What came of it.
    """
    enable_ragged_checkpoints()
    try:
        mask = narrow_mask(groups, model)
        with torch.no_grad():
            small, plan, _ = compact_verified(model, groups, mask, assemble, layout=layout, round_to=None)
        same = reloads(small, inputs, outputs(small, inputs))
        return Smaller("" if same else "other outputs once saved and loaded", plan.left)
    except UntangleError as error:
        # What the mask removes is the same for every type; what stands in the way comes after.
        sentence = str(error).partition(". ")[0]
        return Smaller(sentence.partition(" but ")[2] or sentence)
    except Exception as error:  # Whatever transformers raises here, such a model does not load.
        return Smaller(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")


def narrow_mask(groups: tuple[NeuronGroup, ...], model: PreTrainedModel) -> NeuronMask:
    """Remove some FFN neurons, more in each layer than in the one before, and the first key-value group of every layer.

    Args:
        groups: The neuron groups.
        model: The model that they belong to.

    Returns:
        The mask.
    """
    return NeuronMask.keep_all(groups, str(model.name_or_path)).with_kept({group.name: _narrow(group) for group in groups})


def _narrow(group: NeuronGroup) -> Bool[Tensor, " neuron"]:
    """What one group keeps."""
    if group.kind == "ffn":
        width = group.size // (group.experts or 1)
        return torch.arange(group.size) % width < max(1, width - 4 * (1 + group.layer))
    if not group.key_value_heads or group.key_value_heads == 1:
        return torch.ones(group.size, dtype=torch.bool)
    return torch.arange(group.size) >= group.size // group.key_value_heads
