"""Sums over tokens by one pass of compiled code, on CPUs with vector units where a C compiler is at hand.

The code is `sums_over_tokens.c`, compiled once per process into a folder that is removed at once. Everywhere else sums are made
of tensor operations, which give the same up to rounding.
"""

import ctypes
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

logger = logging.getLogger("hf_untangle")

FLAGS = {"AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512"), "AVX2": ("-march=x86-64-v3",)}
"""What the compiler may use, by what torch says of this CPU."""
NAMES = {torch.float32: "sums_of_float32", torch.bfloat16: "sums_of_bfloat16"}
SUMS = 4
"""Rows of what they add: the sums of z - shift, (z - shift)^2, max(z, 0) and z > 0."""
TILE = 64
"""Neurons are summed this many at a time, and must be a multiple of it."""
WORTH_COMPILING = 2**18
"""Activations of a batch from which on time is saved."""
MOST_THREADS = 4
"""The code runs in one thread, so with more of them tensor operations are faster."""
SECONDS = 30
"""A compiler that takes longer is given up."""


def fused_sums_(
    partial: Float[Tensor, "sum neuron"], z: Float[Tensor, "token neuron"], shift: Float[Tensor, " neuron"]
) -> bool:
    """Add the sums of z - shift, (z - shift)^2, max(z, 0) and z > 0 to partial sums, where compiled code can.

    Args:
        partial: Where they are added, in float64 of shape [4, neuron].
        z: One row per token, on the CPU.
        shift: A value near the mean of every neuron, in float32.

    Returns:
        Whether they were added; if not, nothing was touched.
    """
    if not _suits(partial, z, shift) or (functions := _functions()) is None:
        return False
    tokens, neurons = z.shape
    functions[z.dtype](z.data_ptr(), tokens, neurons, z.stride(0), shift.data_ptr(), partial.data_ptr())
    return True


def _suits(partial: Tensor, z: Tensor, shift: Tensor) -> bool:
    """Whether the code reads such tensors, and is faster."""
    plain = type(z) is Tensor and z.device.type == "cpu" and z.dtype in NAMES and z.layout == torch.strided
    if not plain or z.numel() < WORTH_COMPILING or torch.get_num_threads() > MOST_THREADS:
        return False
    shaped = z.shape[1] % TILE == 0 and z.stride(1) == 1 and len(partial) == SUMS
    exact = partial.dtype == torch.float64 and shift.dtype == torch.float32
    return shaped and exact and partial.is_contiguous() and shift.is_contiguous()


@cache
def _functions() -> Mapping[torch.dtype, "ctypes._NamedFuncPointer"] | None:
    """Compile the code and load it; None where that cannot be done."""
    flags = FLAGS.get(torch.backends.cpu.get_cpu_capability())
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if flags is None or compiler is None:
        return None
    try:
        library = _compiled(compiler, flags)
    except (OSError, subprocess.SubprocessError) as problem:
        logger.debug("Sums over tokens are made of tensor operations, as no code could be compiled: %s", problem)
        return None
    found = {}
    for dtype, name in NAMES.items():
        found[dtype] = getattr(library, name)
        found[dtype].argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p, ctypes.c_void_p]
        found[dtype].restype = None
    return found


def _compiled(compiler: str, flags: tuple[str, ...]) -> ctypes.CDLL:
    """Compile the code for this machine."""
    code = files("hf_untangle.statistics") / "sums_over_tokens.c"
    with tempfile.TemporaryDirectory(prefix="hf-untangle-", ignore_cleanup_errors=True) as folder, as_file(code) as source:
        library = Path(folder) / "sums_over_tokens.so"
        command = [compiler, "-O3", "-shared", "-fPIC", *flags, "-o", str(library), str(source)]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS)
        return ctypes.CDLL(str(library))
