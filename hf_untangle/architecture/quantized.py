"""Weights that bitsandbytes has quantized: a code for every weight, and scales that lie beside them.

In both of its formats one code stands for exactly 0, whatever the scale: 0 of the integers in 8 bits, and the entry 0.0 of the
table in 4 bits (number 7 of NF4). So zeros can be written in place, and no other weight changes, as scales stay.
"""

from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from hf_untangle.architecture.projections import input_width, output_width, weight_of
from hf_untangle.errors import MaskError

Codes = Integer[Tensor, "output input"]
"""One code a weight: int8, or the lower four bits of uint8."""


def has_codes(weight: Tensor) -> bool:
    """Tell whether a weight holds codes of bitsandbytes.

    Args:
        weight: A parameter.

    Returns:
        True in 8 and in 4 bits, once they are quantized.
    """
    return _in_4_bits(weight) or (type(weight).__name__ == "Int8Params" and weight.dtype == torch.int8)


def codes_of(projection: nn.Module) -> Codes:
    """Read the codes of a projection.

    Args:
        projection: A linear projection of bitsandbytes.

    Returns:
        In 8 bits the weight itself, in 4 bits a copy.

    Raises:
        MaskError: They have been repacked for this CPU.
    """
    weight = weight_of(projection)
    if not _in_4_bits(weight):
        return weight.data
    check_packing(projection)
    packed = weight.data.view(torch.uint8).flatten()
    return torch.stack([packed >> 4, packed & 15], 1).view(output_width(projection), input_width(projection))


@torch.no_grad()
def write_codes_(projection: nn.Module, codes: Codes) -> None:
    """Write all codes of a projection.

    Args:
        projection: A linear projection of bitsandbytes, changed in place.
        codes: One a weight.
    """
    weight = weight_of(projection)
    if _in_4_bits(weight):
        pairs = codes.view(-1, 2)
        packed = weight.data.view(torch.uint8)
        packed.copy_((pairs[:, 0] << 4 | pairs[:, 1]).view(packed.shape))
    else:
        weight.data.copy_(codes)


def zero_code(projection: nn.Module) -> int:
    """Find the code that stands for 0.

    Args:
        projection: A linear projection of bitsandbytes.

    Returns:
        The code.
    """
    weight: Any = weight_of(projection)
    return int((weight.quant_state.code == 0).nonzero()[0]) if _in_4_bits(weight) else 0


def dequantized(projection: nn.Module) -> Float[Tensor, "output input"]:
    """Compute the weights that codes and scales stand for.

    Args:
        projection: A linear projection of bitsandbytes.

    Returns:
        The weights.

    Raises:
        MaskError: They have been repacked for this CPU.
    """
    weight: Any = weight_of(projection)
    if _in_4_bits(weight):
        check_packing(projection)
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state)
    state: Any = projection.state
    scales = state.SCB if weight.SCB is None else weight.SCB
    return weight.data * (scales.float()[:, None] / 127)


def check_packing(projection: nn.Module) -> None:
    """Refuse 4-bit weights that bitsandbytes has repacked for fast passes on this CPU, with their scales rounded.

    Args:
        projection: A linear projection of bitsandbytes.

    Raises:
        MaskError: They are.
    """
    if getattr(getattr(weight_of(projection), "quant_state", None), "packing_format_for_cpu", False):
        raise MaskError(
            "The 4-bit weights must be as they were loaded, but bitsandbytes has repacked them for this CPU, and rounded their "
            "scales, when the model ran before. Load the model again, and do this before it runs."
        )


def _in_4_bits(weight: Tensor) -> bool:
    """Tell whether a weight holds packed codes of 4 bits."""
    return type(weight).__name__ == "Params4bit" and getattr(weight, "quant_state", None) is not None
