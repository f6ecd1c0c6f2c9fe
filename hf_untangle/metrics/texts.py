"""Metrics of what a model writes."""

import ast
import warnings
from collections.abc import Sequence
from statistics import fmean

from hf_untangle.arguments import checked_arguments


@checked_arguments
def python_parses(predictions: Sequence[str]) -> dict[str, float]:
    """Share of programs that parse as Python.

    A completion ends where its budget ends, so the last line may be cut off: a program counts when it parses as it is, or
    without its last line. It must hold a statement: blank lines and comments alone do not count. Nothing is run.

    Args:
        predictions: Whole programs: where a prompt was completed, the prompt with its completion.

    Returns:
        `python_parses`, from 0 to 1.
    """
    return {"python_parses": fmean(_is_python(text) or _is_python(text.rpartition("\n")[0]) for text in predictions)}


@checked_arguments
def repetition(predictions: Sequence[str], n: int = 4) -> dict[str, float]:
    """Share of n-grams of a completion that repeat an earlier one (Welleck et al. 2019, arXiv:1908.04319, seq-rep-n).

        repetition(text) = 1 - distinct n-grams / n-grams

    over words. A model that unlearning has broken scores high here while it seems to have forgotten everywhere else.

    Args:
        predictions: Completions.
        n: Words in an n-gram.

    Returns:
        `repetition`: mean over completions, from 0, where no n-gram comes twice, to almost 1; shorter completions count as 0.
        `degenerate`: share of completions that repeat more than half of their n-grams, or have no word at all.
    """
    shares = [_repeated(text.split(), n) for text in predictions]
    lost = (share > 0.5 or not text.split() for share, text in zip(shares, predictions, strict=True))
    return {"repetition": fmean(shares), "degenerate": fmean(lost)}


@checked_arguments
def rouge(predictions: Sequence[str], references: Sequence[str], use_stemmer: bool = False) -> dict[str, float]:
    """Overlap of words with a reference (Lin 2004), by the `rouge_score` package.

    ROUGE-1 counts single words, ROUGE-L the longest sequence of words that both have in this order. Recall is the share of
    the reference that is found. Unlearned knowledge in other words escapes it: never trust it alone.

    Args:
        predictions: Completions.
        references: What each should be.
        use_stemmer: Whether words are cut to their stems before they are compared.

    Returns:
        `rouge1`, `rougeL` (F-measures) and `rougeL_recall`, means over completions, from 0 to 1.

    Raises:
        ImportError: `rouge_score` is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ImportError("ROUGE needs the package rouge_score. Install it with `pip install rouge-score`.") from error
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=use_stemmer)
    scores = [scorer.score(reference, text) for text, reference in zip(predictions, references, strict=True)]
    return {
        "rouge1": fmean(score["rouge1"].fmeasure for score in scores),
        "rougeL": fmean(score["rougeL"].fmeasure for score in scores),
        "rougeL_recall": fmean(score["rougeL"].recall for score in scores),
    }


def _is_python(text: str) -> bool:
    """Whether a text is at least one statement of Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # An odd escape in a string is Python all the same.
        try:
            return bool(ast.parse(text).body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # The parser gives up on deep nesting by the last two.
            return False


def _repeated(words: list[str], n: int) -> float:
    """The share of n-grams of one text that were there before."""
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
