"""Gradients without their largest singular directions, which other text shares (RepSelect, arXiv:2606.17168)."""

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDS = 2
"""Power iterations of the randomised decomposition."""


def collapsed(gradient: Float[Tensor, "..."], *, components: int) -> Float[Tensor, "..."]:
    """Divide the largest singular components of a gradient by how much larger they are than the smallest of them.

    With singular values s_1 >= ... >= s_k and s_k the smallest that is kept, component i is divided by s_i / s_k on the side
    of inputs, and once more on the side of outputs.

    Args:
        gradient: Of a matrix; anything that is none is given back as it is.
        components: How many components are looked at, k.

    Returns:
        A gradient of the same shape.
    """
    if gradient.ndim != 2:
        return gradient
    matrix = gradient.float()
    k = min(components, *matrix.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        left, values, right = torch.svd_lowrank(matrix, q=k, niter=ROUNDS)
    if not bool(values[-1] > 0):
        values = values.clamp(min=float(values[0]) * 1e-6 + 1e-30)
    removed = 1 - values[-1] / values
    matrix = matrix - (matrix @ right * removed) @ right.T
    matrix = matrix - left @ (removed[:, None] * (left.T @ matrix))
    return matrix.to(gradient.dtype)
