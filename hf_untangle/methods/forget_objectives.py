"""Forget objectives: functions of tensors, each minimised to take a corpus out of a model.

pi is the model, pi_0 the model before, len the number of counted tokens of a row, log pi(row) the log-probability of its
counted tokens, summed or per token (`length`). docs/how-to/methods.md says how each compares with its reference implementation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from hf_untangle.arguments import checked_calls
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.kl_to_original import TopLogits
from hf_untangle.methods.predictions import Predictions, mean_squares

Given = TypeVar("Given")


@checked_calls
@dataclass(frozen=True)
class Strengths:
    """The numbers in the formulas of forget objectives; each objective reads the ones that it names."""

    beta: int | float = 1.0
    """Inverse temperature (npo, simnpo, dpo), power of the probability (wga, satimp), or logits taken off (undial)."""
    beta2: int | float = 1.0
    """Power of the improbability (satimp)."""
    delta: int | float = 0.0
    """Margin in nats per token (simnpo)."""
    steering: int | float = 20.0
    """Length of the vector that hidden states are steered to (rmu)."""
    per_token: bool = True
    """Whether log-probabilities are divided by the length of a row (npo, dpo); summed otherwise."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Everything that a forget objective may look at."""

    predictions: Predictions | None = None
    """Of the forget rows; None for an objective that reads hidden states alone."""
    reference: Float[Tensor, " row"] | None = None
    """-log pi_0(row), summed or per token."""
    top: TopLogits | None = None
    """What pi_0 predicted at the counted tokens."""
    alternative: Predictions | None = None
    """Of the same prompts with another answer."""
    alternative_reference: Float[Tensor, " row"] | None = None
    """-log pi_0 of those."""
    hidden: Float[Tensor, "row token width"] | None = None
    """Hidden states behind the chosen layer."""
    counted: Bool[Tensor, "row token"] | None = None
    """Which of them count."""
    direction: Float[Tensor, " width"] | None = None
    """The unit vector that hidden states are steered to."""


ForgetObjective = Callable[[Seen, Strengths], Float[Tensor, ""]]


def ascent(seen: Seen, _: Strengths) -> Float[Tensor, ""]:
    """GradDiff: log pi per token, which has no lower bound (arXiv:2203.12817).

    Args:
        seen: Predictions of the forget rows.

    Returns:
        Minus the cross-entropy per token.
    """
    return -_of(seen).mean_loss()


def npo(seen: Seen, strengths: Strengths) -> Float[Tensor, ""]:
    """Negative preference optimization (arXiv:2404.05868): -(2/beta) mean log sigmoid(-beta log(pi/pi_0)).

    Args:
        seen: Predictions of the forget rows, and their reference losses.
        strengths: `beta` and `per_token`.

    Returns:
        The mean over rows; 2 log 2 / beta where nothing has changed.
    """
    ratio = _needed(seen.reference, "reference losses") - _of(seen).row_losses(per_token=strengths.per_token)
    return -2 / strengths.beta * F.logsigmoid(-strengths.beta * ratio).mean()


def simnpo(seen: Seen, strengths: Strengths) -> Float[Tensor, ""]:
    """NPO without a reference (arXiv:2410.07163): -(2/beta) mean log sigmoid(beta (-log pi / len - delta)).

    Args:
        seen: Predictions of the forget rows.
        strengths: `beta` and `delta`.

    Returns:
        The mean over rows.
    """
    margin = _of(seen).row_losses(per_token=True) - strengths.delta
    return -2 / strengths.beta * F.logsigmoid(strengths.beta * margin).mean()


def dpo(seen: Seen, strengths: Strengths) -> Float[Tensor, ""]:
    """Preference of another answer (arXiv:2305.18290): -(2/beta) mean log sigmoid(beta (log-ratio(other) - log-ratio(forget))).

    Args:
        seen: Predictions of the forget rows and of the alternatives, and the reference losses of both.
        strengths: `beta` and `per_token`.

    Returns:
        The mean over rows.
    """
    lose = _needed(seen.reference, "reference losses") - _of(seen).row_losses(per_token=strengths.per_token)
    other = _needed(seen.alternative, "alternative answers").row_losses(per_token=strengths.per_token)
    win = _needed(seen.alternative_reference, "reference losses of the alternatives") - other
    return -2 / strengths.beta * F.logsigmoid(strengths.beta * (win - lose)).mean()


def rmu(seen: Seen, strengths: Strengths) -> Float[Tensor, ""]:
    """Representation misdirection (arXiv:2403.03218): mean square distance of hidden states from `steering` times a direction.

    Args:
        seen: Hidden states, which of them count, and the direction.
        strengths: `steering`.

    Returns:
        The mean over the width, the counted tokens and the rows.
    """
    hidden, direction = _needed(seen.hidden, "hidden states"), _needed(seen.direction, "a direction")
    return mean_squares(hidden - strengths.steering * direction.to(hidden), _needed(seen.counted, "counted tokens"))


def undial(seen: Seen, strengths: Strengths) -> Float[Tensor, ""]:
    """Self-distillation (arXiv:2402.10052): cross-entropy to softmax(z_0 - beta onehot(token)), z_0 the logits of pi_0.

    Args:
        seen: Predictions of the forget rows, and what pi_0 predicted.
        strengths: `beta`, the logits that the token loses.

    Returns:
        The mean over counted tokens.
    """
    logits, tokens = _of(seen).chosen()
    return _needed(seen.top, "reference logits").demoted(tokens, strengths.beta).cross_entropy(logits).mean()


def wga(seen: Seen, strengths: Strengths) -> Float[Tensor, ""]:
    """Weighted gradient ascent (arXiv:2502.19301): -mean p^beta CE, where no gradient flows through p.

    Args:
        seen: Predictions of the forget rows.
        strengths: `beta`.

    Returns:
        The mean over counted tokens.
    """
    losses = _of(seen).losses()[_of(seen).counted]
    return -((-losses).exp().detach() ** strengths.beta * losses).mean()


def satimp(seen: Seen, strengths: Strengths) -> Float[Tensor, ""]:
    """Saturation and importance (arXiv:2505.11953): -mean p^beta (1 - p)^beta2 CE, where no gradient flows through p.

    Args:
        seen: Predictions of the forget rows.
        strengths: `beta` and `beta2`.

    Returns:
        The mean over counted tokens.
    """
    losses = _of(seen).losses()[_of(seen).counted]
    p = (-losses).exp().detach()
    return -(p**strengths.beta * (1 - p) ** strengths.beta2 * losses).mean()


def flat_logits(seen: Seen, _: Strengths) -> Float[Tensor, ""]:
    """PDU (arXiv:2506.05314): mean (largest logit - mean logit)^2, which is 0 where all tokens are equally likely.

    Args:
        seen: Predictions of the forget rows.

    Returns:
        The mean over counted tokens.
    """
    logits, _tokens = _of(seen).chosen()
    return (logits.amax(-1) - logits.mean(-1)).square().mean()


def uniform(seen: Seen, _: Strengths) -> Float[Tensor, ""]:
    """MaxEnt, as in arXiv:2506.06278: KL(uniform || pi) = -log V - mean_v log pi(v).

    Args:
        seen: Predictions of the forget rows.

    Returns:
        The mean over counted tokens, in nats.
    """
    logits, _tokens = _of(seen).chosen()
    return (-math.log(logits.shape[-1]) - logits.log_softmax(-1).mean(-1)).mean()


FORGET_OBJECTIVE: dict[str, ForgetObjective] = {
    "ascent": ascent,
    "npo": npo,
    "simnpo": simnpo,
    "dpo": dpo,
    "rmu": rmu,
    "undial": undial,
    "wga": wga,
    "satimp": satimp,
    "flat logits": flat_logits,
    "uniform": uniform,
}
"""What is minimised on forget rows."""
FORGET_OVER_ROWS = frozenset({"npo", "simnpo", "dpo", "rmu"})
"""Those that are means over rows; the others are means over tokens, to which longer rows bring more."""


def _of(seen: Seen) -> Predictions:
    """The predictions, which all objectives but those of hidden states need."""
    return _needed(seen.predictions, "predictions")


def _needed(value: Given | None, what: str) -> Given:
    """What an objective cannot do without."""
    if value is None:
        raise ConfigError(f"The forget objective needs {what}, got none. Compute them before the step, see `combined_loss.py`.")
    return value
