"""Weights before and after a translation: what they must be, and the Linear layer that they make."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.recomputed import check_not_recomputed
from hf_untangle.errors import TranslationError


def checked_dtype(module: nn.Module, prefix: str = "") -> torch.dtype:
    """Hold a module to weights that are finite numbers of one dtype.

    Args:
        module: The module.
        prefix: What to put before the names of its weights in a message.

    Returns:
        The dtype of its weights, or PyTorch's default for a module without any.

    Raises:
        TranslationError: There are several dtypes, or a weight is infinite or NaN.
        ArchitectureError: A weight is computed again whenever the module runs.
    """
    check_not_recomputed(module)
    tensors = {name: t for name, t in module.state_dict(prefix=prefix).items() if t.is_floating_point()}
    dtypes = {t.dtype for t in tensors.values()}
    if len(dtypes) > 1:
        raise TranslationError(
            f"All weights must have one dtype, got {sorted(map(str, dtypes))}. Convert them with .to(dtype) first."
        )
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise TranslationError(f"Weights must be finite numbers, but `{name}` holds infinity or NaN. Repair it first.")
    return dtypes.pop() if dtypes else torch.get_default_dtype()


def linear_of(weight: Float[Tensor, "output input"], bias: Float[Tensor, " output"] | None) -> nn.Linear:
    """Make a Linear layer of given weights, which are not copied: a Parameter stays the same object.

    Args:
        weight: Its weight.
        bias: Its bias, if it has one.

    Returns:
        The layer.
    """
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    parts = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    for name, part in parts.items():
        linear.register_parameter(name, part if isinstance(part, nn.Parameter) else nn.Parameter(part))
    return linear
