"""What tells one model's weights from another's."""

import hashlib
from itertools import chain

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.parameters import parameter_names, read_parameter


@torch.no_grad()
def weights_fingerprint(model: PreTrainedModel) -> str:
    """Tell a model's weights from others by the sum, the sum of squares and a few values of every tensor.

    Args:
        model: Any model.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in chain(parameter_names(model), dict(model.named_buffers())):
        weight = read_parameter(model, name)
        some = weight.flatten()[:64].double().tolist()
        values = [*some, *_sums(weight)] if weight.is_floating_point() else some
        digest.update(repr((name, tuple(weight.shape), str(weight.dtype), values)).encode())
    return digest.hexdigest()[:16]


def _sums(weight: Tensor) -> list[float]:
    """The sum and the sum of squares of a tensor, which a single zeroed neuron changes."""
    return [float(weight.sum(dtype=torch.float64)), float(torch.linalg.vector_norm(weight, dtype=torch.float64))]
