"""Which metric is fed with what: the names that `evaluate` takes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_untangle.evaluation.score_cache import Material
from hf_untangle.evaluation.token_scores import TokenScores

Columns = dict[str, list[Any]]
"""What `compute` of a metric takes, by name."""


@dataclass(frozen=True)
class Feed:
    """One name that `evaluate` takes."""

    metric: str
    """The module that computes it."""
    columns: Callable[[Material], Columns]
    """What it computes from."""
    called: dict[str, str] = field(default_factory=dict)
    """Other names for what comes out, where several feed one module."""


def _next_tokens(material: Material) -> Columns:
    """Every token of running text, with the most likely ones in its place."""
    return {
        "predictions": [row for block in material.text for row in block.best.tolist()],
        "references": [token for block in material.text for token in block.tokens.tolist()],
    }


def _by_heart(material: Material) -> Columns:
    """The tokens of answers, with the most likely ones in their places."""
    return {
        "predictions": [answer.best[:, 0].tolist() for answer in material.answers],
        "references": [answer.tokens.tolist() for answer in material.answers],
    }


def _truth(material: Material) -> Columns:
    """Right answers in other words beside wrong ones."""
    return {
        "right": log_probabilities(material.paraphrases),
        "wrong": [log_probabilities(answers) for answers in material.wrong],
    }


def _membership(material: Material) -> Columns:
    """Text that the model may have seen, and text that it has not."""
    return membership_columns(material.text, material.held_out)


def membership_columns(seen: Sequence[TokenScores], unseen: Sequence[TokenScores]) -> Columns:
    """Say what membership inference is computed from.

    Args:
        seen: Scores of texts or answers that a model may have been trained on.
        unseen: Scores of others.

    Returns:
        The columns of `membership_auc`.
    """
    every = [*seen, *unseen]
    return {
        "predictions": log_probabilities(every),
        "means": [one.means.tolist() for one in every],
        "deviations": [one.deviations.tolist() for one in every],
        "references": [1] * len(seen) + [0] * len(unseen),
    }


def _written(material: Material) -> Columns:
    """Completions beside what follows in truth."""
    return {
        "predictions": [one.text for one in material.completions],
        "references": [one.reference for one in material.completions],
    }


def _choices(scores: list[list[TokenScores]], material: Material) -> Columns:
    """How likely every choice is, a token."""
    likely = [[float(choice.log_probabilities.mean()) for choice in choices] for choices in scores]
    return {"predictions": likely, "references": material.right}


def log_probabilities(scores: Iterable[TokenScores]) -> list[list[float]]:
    """Read the log-probabilities of the tokens of several texts or answers.

    Args:
        scores: Of each.

    Returns:
        A list each, in nats.
    """
    return [score.log_probabilities.tolist() for score in scores]


FEEDS: dict[str, Feed] = {
    "top_k_accuracy": Feed("top_k_accuracy", _next_tokens),
    "perplexity": Feed("perplexity", lambda material: {"predictions": log_probabilities(material.text)}),
    "exact_memorization": Feed("exact_memorization", _by_heart),
    "extraction_strength": Feed("extraction_strength", _by_heart),
    "answer_probability": Feed("answer_probability", lambda material: {"predictions": log_probabilities(material.answers)}),
    "paraphrase_probability": Feed(
        "answer_probability",
        lambda material: {"predictions": log_probabilities(material.paraphrases)},
        {"answer_probability": "paraphrase_probability"},
    ),
    "truth_ratio": Feed("truth_ratio", _truth),
    "membership_auc": Feed("membership_auc", _membership),
    "rouge": Feed("rouge", _written),
    "repetition": Feed("repetition", lambda material: {"predictions": [one.text for one in material.completions]}),
    "python_parses": Feed("python_parses", lambda material: {"predictions": [one.whole for one in material.completions]}),
    "choice_by_letter": Feed(
        "multiple_choice", lambda material: _choices(material.letters, material), {"accuracy": "accuracy_by_letter"}
    ),
    "choice_by_text": Feed(
        "multiple_choice", lambda material: _choices(material.choices, material), {"accuracy": "accuracy_by_text"}
    ),
}
"""Every metric that `evaluate` can take, by name."""
