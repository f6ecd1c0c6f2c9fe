"""Retain objectives: functions of tensors, each minimised to keep what a model does on a corpus."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_untangle.evaluation.kl_to_original import TopLogits
from hf_untangle.methods.predictions import Predictions, mean_squares


@dataclass(frozen=True, eq=False)
class Kept:
    """Everything that a retain objective may look at."""

    predictions: Predictions | None = None
    """Of the retain rows."""
    top: TopLogits | None = None
    """What the original predicted at the counted tokens."""
    hidden: Float[Tensor, "row token width"] | None = None
    """Hidden states behind the chosen layer."""
    original_hidden: Float[Tensor, "row token width"] | None = None
    """Those of the original."""
    counted: Bool[Tensor, "row token"] | None = None
    """Which of them count."""


RetainObjective = Callable[[Kept], Float[Tensor, ""]]


def nll(kept: Kept) -> Float[Tensor, ""]:
    """Cross-entropy per counted token, in nats.

    Args:
        kept: Predictions of the retain rows.

    Returns:
        The mean.
    """
    assert kept.predictions is not None
    return kept.predictions.mean_loss()


def kl(kept: Kept) -> Float[Tensor, ""]:
    """KL(pi_0 || pi) per counted token, in nats: what the original predicted is the target, not the text.

    Args:
        kept: Predictions of the retain rows, and what the original predicted.

    Returns:
        The mean, exact up to the grouping of unlikely tokens (`TopLogits`).
    """
    assert kept.predictions is not None and kept.top is not None
    return kept.top.divergence(kept.predictions.chosen()[0]).mean()


def hidden(kept: Kept) -> Float[Tensor, ""]:
    """Mean square distance of hidden states from those of the original, as RMU retains (arXiv:2403.03218).

    Args:
        kept: Both hidden states, and which of them count.

    Returns:
        The mean over the width, the counted tokens and the rows.
    """
    assert kept.hidden is not None and kept.original_hidden is not None and kept.counted is not None
    return mean_squares(kept.hidden - kept.original_hidden.to(kept.hidden), kept.counted)


def none(_: Kept) -> Float[Tensor, ""]:
    """Nothing is kept by an objective; the budget alone stops the run.

    Returns:
        Zero.
    """
    return torch.zeros(())


RETAIN_OBJECTIVE: dict[str, RetainObjective] = {"nll": nll, "kl": kl, "hidden": hidden, "none": none}
"""What is minimised on retain rows."""
RETAIN_OVER_ROWS = frozenset({"hidden"})
"""Those that are means over rows; the others are means over tokens, to which longer rows bring more."""
