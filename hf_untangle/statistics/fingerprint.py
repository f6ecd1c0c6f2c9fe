"""What tells one model's weights from another's."""

import hashlib
from itertools import chain

import torch
from torch import Tensor, nn

from hf_untangle.architecture.parameters import parameter_names, read_parameter
from hf_untangle.arguments import checked_arguments

WORD = 8
"""Bytes that are summed at once."""
CHUNK = 1 << 20
"""Words that are looked at at once, so that a fingerprint takes a few megabytes of memory."""
ODD = 0x9E3779B97F4A7C15 - (1 << 64)
"""Factor of the position of a word, from Knuth's multiplicative hashing."""


@checked_arguments
@torch.no_grad()
def weights_fingerprint(model: nn.Module) -> str:
    """Tell a model's weights from others, by every bit of every tensor.

    Sums are of integers, so that devices, threads and libraries agree on them.

    Args:
        model: Any model.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in chain(parameter_names(model), dict(model.named_buffers())):
        weight = read_parameter(model, name)
        digest.update(repr((name, tuple(weight.shape), str(weight.dtype), _sum_of_bits(weight))).encode())
    return digest.hexdigest()[:16]


def _sum_of_bits(weight: Tensor) -> int:
    """Sum of all words of a tensor, each times an odd number of its own, modulo 2^64."""
    if not weight.numel():
        return 0
    data = weight.detach().contiguous().flatten().view(torch.uint8)
    whole = len(data) - len(data) % WORD
    rest = int.from_bytes(bytes(data[whole:].tolist()), "little")
    words = data[:whole]
    # A view into a larger tensor may begin in the middle of a word.
    words = (words.clone() if words.storage_offset() % WORD else words).view(torch.int64)
    factors = torch.arange(min(CHUNK, len(words)), device=words.device) * ODD | 1
    sums = [int((chunk * factors[: len(chunk)]).sum()) for chunk in words.split(CHUNK)] if len(words) else []
    return (rest + sum((2 * number + 1) * one for number, one in enumerate(sums))) % (1 << 64)
