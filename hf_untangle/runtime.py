"""The machine at hand: in which dtype it is fast."""

import time
from functools import cache

import torch
from torch import Tensor

FASTER = 2.0
"""How many times as fast a product must be in bfloat16 as in float32 for the processor to have units for it."""
SIZE, TIMES = 512, 5
"""Rows and columns of the product that is timed, and how often it is."""


@cache
def has_matrix_units() -> bool:
    """Find out, by timing one small product once in a process, whether the processor multiplies matrices in bfloat16.

    Without such units bfloat16 is emulated, and slower than float32.

    Returns:
        Whether a product in bfloat16 is at least twice as fast as in float32.
    """
    matrix = torch.ones(SIZE, SIZE)
    return _seconds(matrix) > FASTER * _seconds(matrix.bfloat16())


def fast_dtype(device: torch.device | str, own: torch.dtype | None = None) -> torch.dtype:
    """Choose the dtype that a device is fast in.

    Args:
        device: Where a model is going to run.
        own: The dtype of its checkpoint; None where it has none of its own, as after dequantization.

    Returns:
        On an accelerator the checkpoint's own, or bfloat16 where it has none; on a processor the same where it has units for
        bfloat16, and else float32 instead of a dtype of 16 bits.
    """
    emulated = torch.device(device).type == "cpu" and not has_matrix_units()
    if own is None:
        return torch.float32 if emulated else torch.bfloat16
    return torch.float32 if emulated and own in (torch.bfloat16, torch.float16) else own


def _seconds(matrix: Tensor) -> float:
    """Seconds of a product, the best of a few."""

    def once() -> float:
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        return time.perf_counter() - start

    once()
    return min(once() for _ in range(TIMES))
