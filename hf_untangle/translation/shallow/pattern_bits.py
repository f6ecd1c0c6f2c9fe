"""Activation patterns as bits: packed eight to a byte, and hashed to 64 bits, wherever the tensors are."""

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

# The finishing steps of the splitmix64 generator: shift, xor, multiply; its constants as signed numbers.
_STEPS = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))
_GOLDEN = -0x61C8864680B583EB


def pack(patterns: Bool[Tensor, "point neuron"]) -> UInt8[Tensor, "point byte"]:
    """Pack patterns, the first neuron into the lowest bit.

    Args:
        patterns: One bit for each neuron.

    Returns:
        As many bytes as hold them, in groups of eight.
    """
    neurons = patterns.shape[1]
    groups = 8 * max(1, -(-neurons // 64))  # whole 64-bit words, to hash them
    padded = torch.nn.functional.pad(patterns, (0, 8 * groups - neurons)).unflatten(1, (groups, 8))
    values = 2 ** torch.arange(8, device=patterns.device)
    return (padded * values).sum(dim=-1).to(torch.uint8)


def unpack(packed: UInt8[Tensor, "point byte"], neurons: int) -> Bool[Tensor, "point neuron"]:
    """Undo `pack`.

    Args:
        packed: Packed patterns.
        neurons: How many neurons they have.

    Returns:
        The patterns.
    """
    bits = torch.arange(8, device=packed.device, dtype=torch.uint8)
    return ((packed[:, :, None] >> bits) & 1).flatten(1)[:, :neurons].bool()


def hashed(packed: UInt8[Tensor, "point byte"]) -> Int64[Tensor, " point"]:
    """Hash packed patterns to 64 bits, the same on every device and in every process.

    Args:
        packed: Packed patterns.

    Returns:
        One number for each. Different patterns can share one, if with a probability of 2^-64 a pair.
    """
    words = packed.contiguous().view(torch.int64)
    positions = torch.arange(words.shape[1], device=packed.device) * _GOLDEN
    return _scrambled(_scrambled(words + positions).sum(dim=1) + _GOLDEN)


def _scrambled(words: Tensor) -> Tensor:
    """Spread each bit over the whole word; overflow is meant to wrap around."""
    for shift, factor in _STEPS:
        words = (words ^ _shifted(words, shift)) * factor
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, shift: int) -> Tensor:
    """Shift right and fill with zeros; torch itself repeats the sign bit."""
    return (words >> shift) & ((1 << (64 - shift)) - 1)
