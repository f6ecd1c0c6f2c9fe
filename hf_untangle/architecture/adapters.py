"""What of a peft adapter belongs to neurons."""

from typing import Literal

from torch import nn

from hf_untangle.errors import MaskError


def low_rank_factors(model: nn.Module, name: str, which: Literal["lora_A", "lora_B"]) -> list[str]:
    """List one factor of every low-rank adapter on a projection.

    Args:
        model: The model below the adapters.
        name: Path of the projection, or of a parameter that holds one per expert.
        which: The factor A, which reads, or B, which writes.

    Returns:
        The paths of the factors, which are projections themselves; none where there is no adapter.

    Raises:
        MaskError: There is an adapter, and it is no plain LoRA.
    """
    projection = getattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    if not hasattr(projection, "base_layer"):
        return []
    # DoRA divides each row by its norm, and that of a removed row is zero.
    if not hasattr(projection, which) or len(getattr(projection, "lora_magnitude_vector", {})):
        raise MaskError(
            f"Neurons can be removed, and held at zero, under LoRA adapters alone, but `{name}` carries a "
            f"{type(projection).__module__.split('.')[-2]} layer of another form. Use `LoraConfig` without DoRA."
        )
    return [f"{name}.{which}.{adapter}" for adapter in getattr(projection, which)]
