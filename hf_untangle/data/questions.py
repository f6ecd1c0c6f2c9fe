"""Questions: a prompt, the answer to it, and where there are some the same answer in other words, wrong answers, or choices."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset

from hf_untangle.data.files import TABLE_READERS, exists, table_rows
from hf_untangle.errors import CorpusError

NAMES = {
    "prompt": ("prompt", "question"),
    "answer": ("answer", "completion"),
    "paraphrase": ("paraphrase", "paraphrased_answer"),
    "wrong": ("wrong", "perturbed_answer"),
    "choices": ("choices",),
}
"""What each field may be called in a table; the second names are those of public sets."""


@dataclass(frozen=True)
class Question:
    """A prompt with what is known of its answer."""

    prompt: str
    """What the model is given."""
    answer: str
    """What is right."""
    paraphrase: str | None = None
    """The right answer in other words."""
    wrong: tuple[str, ...] = ()
    """Answers of the same form that are wrong."""
    choices: tuple[str, ...] = ()
    """What there is to choose from, the right answer among it."""


QuestionSource = str | Path | Dataset | IterableDataset | Iterable[Mapping[str, Any] | Question]


def questions(source: QuestionSource) -> tuple[Question, ...]:
    """Read questions.

    Args:
        source: A table (jsonl, json, csv, parquet), a dataset, mappings, or questions. Each row has `prompt` (or
            `question`) and `answer`, and may have `paraphrase`, `wrong` (a list) and `choices` (a list, of which `answer` may
            be the number, from 0).

    Returns:
        All of them, in order.

    Raises:
        CorpusError: There are none, the file is missing or no table, or a row lacks what it must have.
    """
    name, rows = _opened(source)
    found = tuple(_question(row, number, name) for number, row in enumerate(rows))
    if not found:
        raise CorpusError(f"`{name}` has no rows. Pass at least one prompt with its answer.")
    return found


def _opened(source: QuestionSource) -> tuple[str, Iterator[Any]]:
    """What to call a source, and its rows."""
    if not isinstance(source, str | Path):
        return "pairs", iter(source)  # type: ignore[arg-type]
    path = Path(source)
    if path.suffix.lower() not in TABLE_READERS or not exists(path):
        raise CorpusError(f"Pairs must be in a table ({', '.join(TABLE_READERS)}), but there is none at `{source}`.")
    return path.name, table_rows(path)


def _question(row: Any, number: int, name: str) -> Question:
    """Make a question of one row."""
    if isinstance(row, Question):
        return row
    if not isinstance(row, Mapping):
        raise CorpusError(
            f"Pairs must be rows with `prompt` and `answer`, but row {number} of `{name}` is a {type(row).__name__}."
        )
    values = {field: next((row[alias] for alias in aliases if alias in row), None) for field, aliases in NAMES.items()}
    choices = tuple(values["choices"] or ())
    answer = values["answer"]
    if isinstance(answer, int) and 0 <= answer < len(choices):
        answer = choices[answer]
    if not isinstance(values["prompt"], str) or not isinstance(answer, str) or (choices and answer not in choices):
        raise CorpusError(
            f"A row must have a text `prompt` and a text `answer`, which is one of `choices` or its number where there are "
            f"some, but row {number} of `{name}` is {dict(row)!r:.200}."
        )
    return Question(values["prompt"], answer, values["paraphrase"], _texts(values["wrong"]), choices)


def _texts(value: Any) -> tuple[str, ...]:
    """One text or several, as several."""
    return (value,) if isinstance(value, str) else tuple(value or ())
