"""A translation compared with its original on random points, before anyone relies on it."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.errors import TranslationError


@torch.no_grad()
def check_same_function(
    before: Callable[[Tensor], Tensor],
    after: Callable[[Tensor], Tensor],
    points: Float[Tensor, "point ..."],
    size: float | None = None,
) -> None:
    """Compare two functions up to rounding: the square root of the precision of the dtype, as a share of what they add up.

    Args:
        before: The original.
        after: What it was translated to.
        points: Where to compare them, in the dtype of both.
        size: The largest sum of absolute values that an output is made of; the largest output unless given.

    Raises:
        TranslationError: They differ by more than that.
    """
    wanted, found = before(points.clone()), after(points.clone())
    dtype = min(wanted.dtype, found.dtype, key=lambda dtype: dtype.itemsize)
    wanted, found = wanted.double().cpu(), found.double().cpu()
    if not wanted.numel():
        return
    size = wanted.abs().amax().item() if size is None else size
    worst = (wanted - found).abs().amax().item()
    if not worst <= torch.finfo(dtype).eps ** 0.5 * size:
        raise TranslationError(
            f"The translation differs from the original by {worst:.3g} on random points, where outputs are up to {size:.3g}: "
            f"more than the rounding of {dtype}. Translate it in float64: .double()."
        )
