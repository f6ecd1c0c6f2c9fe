"""Metrics of answers: how well a model knows them, given their prompts."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import takewhile
from statistics import fmean

from hf_untangle.arguments import checked_arguments


@checked_arguments
def answer_probability(predictions: Sequence[Sequence[float]]) -> dict[str, float]:
    """Probability of an answer to a model, normalized by its length (Maini et al. 2024, arXiv:2401.06121).

        P(answer) = exp((1/T) sum_t log p(answer t | prompt, answer before t))

    Of paraphrased answers it is the paraphrase probability, which tells knowledge from wording.

    Args:
        predictions: For every answer, the log-probabilities (in nats) of its tokens.

    Returns:
        `answer_probability`: the mean over answers, from 0 to 1.

    Raises:
        ValueError: An answer has no token.
    """
    if not all(predictions):
        raise ValueError("Every answer must have at least one token, but one has none. Leave it out.")
    return {"answer_probability": fmean(math.exp(fmean(answer)) for answer in predictions)}


@checked_arguments
def exact_memorization(predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, float]:
    """Share of an answer's tokens that are the argmax under teacher forcing (Tirumala et al. 2022, arXiv:2205.10770).

        EM(answer) = (1/T) sum_t [argmax p(. | prompt, answer before t) = answer t]

    Args:
        predictions: For every answer, the most likely token at each of its positions, given the prompt and the true tokens
            before.
        references: For every answer, its tokens.

    Returns:
        `exact_memorization`: the mean over answers, from 0 to 1.

    Raises:
        ValueError: An answer has no token, or not one prediction for each.
    """
    return {"exact_memorization": fmean(map(_share_right, predictions, references))}


@checked_arguments
def extraction_strength(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], at_least_one: bool = False
) -> dict[str, float]:
    """Share of an answer that a model writes by itself once the rest is given (Carlini et al. 2021, arXiv:2012.07805).

        ES(answer) = 1 - k/T,  k the shortest prefix after which every argmax is right

    When the last token is wrong no suffix can be extracted: k = T, and the answer scores 0.

    Args:
        predictions: For every answer, the most likely token at each of its positions, given the prompt and the true tokens
            before.
        references: For every answer, its tokens.
        at_least_one: Whether the last token counts as extracted where it is wrong too, k = T - 1, as in the code of
            open-unlearning and in tables made by it.

    Returns:
        `extraction_strength`: the mean over answers; 1 where all of every answer follows from the prompt alone.

    Raises:
        ValueError: An answer has no token, or not one prediction for each.
    """
    shares = map(partial(_strength, smallest=int(at_least_one)), predictions, references)
    return {"extraction_strength": fmean(shares)}


@checked_arguments
def truth_ratio(right: Sequence[Sequence[float]], wrong: Sequence[Sequence[Sequence[float]]]) -> dict[str, float | list[float]]:
    """Likelihood of wrong answers relative to that of a right one in other words (Maini et al. 2024, arXiv:2401.06121).

        P(answer) = exp(mean log-probability of its tokens)
        R = P(wrong) / P(right),  P(wrong) the geometric mean over the wrong answers, as in the public code

    R is far below 1 while a model knows what is right, and near 1 when it has forgotten.

    Args:
        right: For every question, the log-probabilities (in nats) of the tokens of a right answer, paraphrased.
        wrong: For every question, the same for each of its wrong answers.

    Returns:
        `truth_ratio`: the mean over questions of min(R, 1/R), 1 where the model cannot tell right from wrong;
        `true_by_ratio`: the mean of max(0, 1 - R), near 1 where it knows what is right; `ratios`: R of every question, for a
        test against a model that never saw the answers.

    Raises:
        ValueError: A question has no right or no wrong answer of at least one token.
    """
    if not all(right) or not all(answers and all(answers) for answers in wrong):
        raise ValueError("Every question needs a right answer and a wrong one of at least one token, but one lacks them.")
    logs = [fmean(map(fmean, answers)) - fmean(one) for one, answers in zip(right, wrong, strict=True)]
    return {
        "truth_ratio": fmean(math.exp(-abs(log)) for log in logs),
        "true_by_ratio": fmean(max(0.0, -math.expm1(min(log, 0.0))) for log in logs),
        "ratios": [math.exp(log) for log in logs],
    }


@checked_arguments
def multiple_choice(predictions: Sequence[Sequence[float]], references: Sequence[int]) -> dict[str, float]:
    """Share of questions in which the right choice is the most likely one.

    Of the log-probabilities of the letters it is accuracy by letter (MMLU, WMDP), of those of the answers themselves accuracy
    by text. A model may have lost the letters and not the knowledge, so look at both, and at chance.

    Args:
        predictions: For every question, one number per choice, such as its log-probability; the highest is the model's choice.
        references: The number of the right choice, from 0.

    Returns:
        `accuracy`, from 0 to 1, where a tie for the best counts as a guess among those; and `chance`, that of a blind guess.

    Raises:
        ValueError: The right choice is not among those given.
    """
    return {
        "accuracy": fmean(map(_right, predictions, references)),
        "chance": fmean(1 / len(choices) for choices in predictions),
    }


def _share_right(predicted: Sequence[int], answer: Sequence[int]) -> float:
    """The share of one answer that is predicted."""
    _check_lengths(predicted, answer)
    return fmean(one == other for one, other in zip(predicted, answer, strict=True))


def _strength(predicted: Sequence[int], answer: Sequence[int], smallest: int) -> float:
    """The share of one answer that is its longest suffix without a mistake, or the smallest number of tokens that counts."""
    _check_lengths(predicted, answer)
    from_the_end = (one == other for one, other in zip(reversed(predicted), reversed(answer), strict=True))
    return max(smallest, sum(takewhile(bool, from_the_end))) / len(answer)


def _check_lengths(predicted: Sequence[int], answer: Sequence[int]) -> None:
    """Refuse an answer without a prediction for each of its tokens."""
    if not answer or len(predicted) != len(answer):
        raise ValueError(
            "An answer must have at least one token, and one prediction for each, "
            f"got {len(predicted)} predictions for {len(answer)} tokens."
        )


def _right(choices: Sequence[float], right: int) -> float:
    """1 where the right choice is best, 0 where another is, and a share where several are."""
    if not 0 <= right < len(choices):
        raise ValueError(f"The right choice must be one of {len(choices)}, from 0, got {right}.")
    best = [one == max(choices) for one in choices]
    return best[right] / sum(best)
