"""Compaction of a model with LoRA adapters from peft: they are cut with the same indices as the weights beside them."""

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.meta_models import skeleton
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import place_of
from hf_untangle.compaction.assemble import assemble
from hf_untangle.compaction.edits import Edit, Edits, removed_neurons
from hf_untangle.compaction.target_widths import Layout, mask_of_all
from hf_untangle.compaction.verify import compact_verified
from hf_untangle.errors import CompactionError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import Index, check_in_memory

FACTORS = {"lora_A": 1, "lora_B": 0}
"""The factors of LoRA, B A of shape [output, input], with the axis that each shares with the weight."""


def has_adapters(model: Any) -> bool:
    """Tell whether a model has adapters from peft around it.

    Args:
        model: A model.

    Returns:
        True for a `peft.PeftModel`.

    Raises:
        CompactionError: It has adapters inside, which transformers has loaded itself.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise CompactionError(
            "Adapters that `load_adapter` put into the model cannot be told from it. Load them with "
            "`PeftModel.from_pretrained(model, ...)` instead, and pass that."
        )
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


@torch.no_grad()
def compact_with_lora(
    model: Any,
    mask: NeuronMask | None = None,
    *,
    groups: tuple[NeuronGroup, ...] | None = None,
    layout: Layout = "ragged",
    round_to: int | None = None,
) -> Any:
    """Take removed neurons out of a model and of the LoRA adapters that are attached to it.

    Args:
        model: A `peft.PeftModel` with LoRA adapters on linear projections. It is left as it was.
        mask: Which neurons of the model without adapters stay; read off its weights when None.
        groups: As in `compact`, of the model without adapters.
        layout: As in `compact`.
        round_to: As in `compact`.

    Returns:
        A `peft.PeftModel` of the smaller model, with the same adapters, cut.

    Raises:
        CompactionError: An adapter is no LoRA, or the model cannot be made smaller.
        MaskError: The mask is not this model's, or its weights are quantized or not loaded.
    """
    from peft import get_peft_model, set_peft_model_state_dict

    adapters = {name: _adapter_of(model, name) for name in model.peft_config}
    plain = _without_adapters(model)
    groups = neuron_groups(plain) if groups is None else groups
    check_in_memory(plain, groups)
    mask = removed_neurons(plain, groups) if mask is None else mask_of_all(mask, groups, str(plain.name_or_path))
    small, _, edits = compact_verified(plain, groups, mask, assemble, layout=layout, round_to=round_to)
    first, *others = adapters
    adapted = get_peft_model(small, deepcopy(model.peft_config[first]), adapter_name=first)
    for name in others:
        adapted.add_adapter(name, deepcopy(model.peft_config[name]))
    for name, tensors in adapters.items():
        cut = {key: _cut(key, tensor, edits, plain) for key, tensor in tensors.items()}
        set_peft_model_state_dict(adapted, cut, adapter_name=name)
    adapted.set_adapter(model.active_adapter)
    return adapted.train(model.training)


def _without_adapters(model: Any) -> PreTrainedModel:
    """The model below the adapters, with the same tensors in modules of its own."""
    base = model.get_base_model()
    plain = skeleton(type(base), base.config)
    plain.name_or_path = base.name_or_path
    named = [*base.named_parameters(remove_duplicate=False), *base.named_buffers(remove_duplicate=False)]
    for name, tensor in named:
        path, _, own = name.replace(".base_layer.", ".").rpartition(".")
        if not any(part.startswith("lora_") for part in path.split(".")):
            setattr(plain.get_submodule(path), own, tensor)
    plain.generation_config = base.generation_config
    return cast(PreTrainedModel, plain.train(base.training))


def _adapter_of(model: Any, name: str) -> dict[str, Tensor]:
    """The tensors of one adapter, all of which must be factors of LoRA."""
    from peft import get_peft_model_state_dict

    # Embeddings belong to the model; with the default, peft asks the Hub whether they do.
    tensors = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    for key in tensors:
        if not key.endswith(tuple(f".{factor}.weight" for factor in FACTORS)):
            raise CompactionError(
                f"Only plain LoRA on linear projections can be cut with the model, but the adapter `{name}` has `{key}`. Merge "
                "it with `merge_and_unload()` and compact the merged model."
            )
    return tensors


def _cut(key: str, tensor: Tensor, edits: Edits, plain: PreTrainedModel) -> Tensor:
    """Cut a factor like the weight that it is added to."""
    name, factor, _ = key.removeprefix("base_model.model.").rsplit(".", 2)
    place, axis = place_of(plain, name), FACTORS[factor]
    edit = edits.get(place.weight, Edit())
    on_weight = 1 - axis if place.is_transposed else axis
    zeros: list[Index] = [(*[slice(None)] * axis, index[-1]) for index in edit.zeros if len(index) == on_weight + 1]
    return Edit(zeros, [(axis, index) for at, index in edit.stays if at == on_weight]).apply(tensor)
