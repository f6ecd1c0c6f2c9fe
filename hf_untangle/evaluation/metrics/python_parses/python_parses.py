"""Share of programs that parse as Python.

A completion ends where its budget ends, so the last line may be cut off: a program counts when it parses as it is, or without
its last line. It must hold a statement: blank lines and comments alone do not count. Nothing is run.
"""

# evaluate hands columns over by name, and knows them from _info alone.
# pyright: reportIncompatibleMethodOverride=false

import ast
import warnings
from collections.abc import Sequence
from statistics import fmean

import datasets
import evaluate

INPUTS = """
Args:
    predictions: Whole programs: where a prompt was completed, the prompt with its completion.

Returns:
    `python_parses`, from 0 to 1.
"""


class PythonParses(evaluate.Metric):
    """Share of texts that are Python."""

    def _info(self) -> evaluate.MetricInfo:
        """What it takes."""
        return evaluate.MetricInfo(
            description="Share of programs that parse as Python, an unfinished last line left out.",
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, *, predictions: Sequence[str]) -> dict[str, float]:
        """Average over programs."""
        return {"python_parses": fmean(_is_python(text) or _is_python(text.rpartition("\n")[0]) for text in predictions)}


def _is_python(text: str) -> bool:
    """Whether a text is at least one statement of Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # An odd escape in a string is Python all the same.
        try:
            return bool(ast.parse(text).body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # The parser gives up on deep nesting by the last two.
            return False
