"""Ridge regression of some neurons on the others of their group, from second moments alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_untangle.statistics.gram import Gram

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""What is tried, relative to the mean of the squares of the neurons that stay."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the removed neurons of one expert are, as far as the kept ones tell."""

    weights: Float[Tensor, "kept removed"]
    """What each kept neuron adds to each removed one."""
    constant: Float[Tensor, " removed"]
    """What is added in any case; zero without an intercept."""


def predict(gram: Gram, expert: int, kept: Bool[Tensor, " neuron"], ridge: float, *, intercept: bool) -> Prediction | None:
    """Predict removed neurons from kept ones, with the least squared error on the tokens of the moments.

    With H the second moments, B = (H_KK + r I)^-1 H_KP, where r is `ridge` times the mean of the diagonal of H_KK, which is
    about their means with an intercept. What removed neurons P wrote through W_P, the kept ones K then write through
    W_K + W_P B^T (OSSCAR, arXiv:2403.12983, and FASP, arXiv:2501.09412, solve for the same weights).

    Args:
        gram: Second moments.
        expert: Which matrix of them.
        kept: Which neurons stay.
        ridge: How much large weights cost.
        intercept: Whether a constant may be added.

    Returns:
        The prediction, in float64; None where the kept neurons said nothing.
    """
    second, mean = _double(gram.second[expert]), _double(gram.total[expert]) / gram.count[expert].clamp_min(1).item()
    kept = kept.to(second.device)
    if intercept:
        second = second - gram.count[expert].item() * torch.outer(mean, mean)
    inner = second[kept][:, kept]
    scale = inner.diagonal().mean()
    # Of an expert without tokens, or without neurons that stay, there is nothing to learn.
    if not len(inner) or not scale > 0:
        return None
    inner.diagonal().add_(ridge * scale)
    weights = torch.cholesky_solve(second[kept][:, ~kept], torch.linalg.cholesky(inner))
    constant = mean[~kept] - mean[kept] @ weights if intercept else torch.zeros_like(mean[~kept])
    return Prediction(weights, constant)


def squared_error(
    gram: Gram,
    expert: int,
    kept: Bool[Tensor, " neuron"],
    reads: Float[Tensor, "output neuron"],
    prediction: Prediction | None,
    constant: Float[Tensor, " removed"] | None = None,
) -> float:
    """The squared error of what a projection writes once removed neurons read what is predicted.

    Args:
        gram: Second moments of the tokens that it is measured on.
        expert: Which matrix of them.
        kept: Which neurons stay.
        reads: The weights of the projection.
        prediction: What removed neurons read; `constant` when None.
        constant: What they read without a prediction; zero when None.

    Returns:
        Summed over tokens and outputs.
    """
    second, total = _double(gram.second[expert]), _double(gram.total[expert])
    kept = kept.to(second.device)
    count, gone = gram.count[expert].item(), second[~kept][:, ~kept]
    shift = constant if prediction is None else prediction.constant
    error = gone
    mean = total[~kept]
    if prediction is not None:
        across = second[~kept][:, kept] @ prediction.weights
        error = error - across - across.T + prediction.weights.T @ second[kept][:, kept] @ prediction.weights
        mean = mean - total[kept] @ prediction.weights
    if shift is not None:
        shift = shift.to(error)
        both = torch.outer(mean, shift)
        error = error - both - both.T + count * torch.outer(shift, shift)
    through = reads.to(error)[:, ~kept]
    return float(((through @ error) * through).sum().clamp_min(0))


def _double(tensor: Tensor) -> Tensor:
    """A tensor in float64, on the CPU where its device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
