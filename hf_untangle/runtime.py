"""The machine at hand: in which dtype it is fast, and its memory that is held but not used."""

import ctypes
import logging
import time
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

logger = logging.getLogger("hf_untangle")

DEVICES = ("cpu", "cuda", "mps", "xpu")
"""What a device map may be that is no map."""
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


def dtype_of_dequantized(where: str | None) -> torch.dtype | str:
    """Choose the dtype that a model without one of its own is loaded in, so that what is no weight stays as exact as it was.

    Args:
        where: The device that it goes to, or a device map; a processor when None.

    Returns:
        A dtype; `auto`, the checkpoint's, where a map says the place of every module.
    """
    where = where or "cpu"
    found = fast_dtype(where) if where.partition(":")[0] in DEVICES else "auto"
    if found == torch.bfloat16:
        logger.info("Computing in bfloat16, which this machine is faster in than in float32.")
    return found


def in_fast_dtype(model: PreTrainedModel) -> PreTrainedModel:
    """Cast a model to the dtype that its device is fast in; one that lies in several places stays as it is.

    Args:
        model: A model in the dtype of its checkpoint.

    Returns:
        The same model.
    """
    if len({parameter.device for parameter in model.parameters()}) != 1 or model.device.type == "meta":
        return model
    fast = fast_dtype(model.device, model.dtype)
    if fast != model.dtype:
        logger.info(
            "Computing in %s, which this machine is faster in than in %s.",
            *(str(one).removeprefix("torch.") for one in (fast, model.dtype)),
        )
        model = model.to(dtype=fast)  # type: ignore[call-arg]
    return model


def _seconds(matrix: Tensor) -> float:
    """Seconds of a product, the best of a few."""

    def once() -> float:
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        return time.perf_counter() - start

    once()
    return min(once() for _ in range(TIMES))


def release_unused_memory() -> None:
    """Give memory back to the system that tensors do not use any more, but that the C library holds for others.

    A backward pass leaves as much as it needed, in pieces that larger tensors do not fit into. Nothing happens where the C
    library is not glibc.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """The function of glibc that does it; None in other C libraries."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
