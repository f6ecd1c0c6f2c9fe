"""The card of a mask that travels alone: what it hides, how to use it, and what it is not."""

from collections.abc import Mapping

from huggingface_hub import ModelCard, ModelCardData
from jaxtyping import Bool
from torch import Tensor

from hf_untangle.architecture.neurons import Kind
from hf_untangle.arguments import checked_arguments
from hf_untangle.hub.cards import TAGS, as_markdown, card, hub_id, shown_name


@checked_arguments
def mask_card(
    kept: Mapping[str, Bool[Tensor, " neuron"]], kinds: dict[str, Kind], model: str, source: str, license: str | None = None
) -> ModelCard:
    """Write the card of a mask as an adapter.

    Args:
        kept: Which neurons stay, by group.
        kinds: The kind of each group.
        model: The name or path of the model that the mask was made for.
        source: The name of the folder or repository that the adapter is loaded from.
        license: The license of the model; left out when None.

    Returns:
        The card, from nothing but the mask.
    """
    base = hub_id(model)
    data = ModelCardData(
        base_model=base,
        base_model_relation="adapter" if base else None,
        license=license,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=[*TAGS, "ia3"],
    )
    groups = [
        {"name": as_markdown(name), "kind": kinds[name], "removed": int((~vector).sum()), "neurons": len(vector)}
        for name, vector in kept.items()
    ]
    return card(
        "mask.md.j2", data, model=as_markdown(shown_name(model)), source=as_markdown(source), groups=groups, license=license
    )
