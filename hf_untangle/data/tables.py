"""Rows in memory, in whatever they come: data sets, frames, lists and iterators; and mappings of splits of these."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any, cast

from hf_untangle.data.catalogue import CORPORA, OWN
from hf_untangle.data.chat_turns import is_chat
from hf_untangle.data.files import exists
from hf_untangle.data.row_formats import ACCEPTED, Row
from hf_untangle.data.rows import Rows
from hf_untangle.errors import CorpusError
from hf_untangle.files.json_text import whole_text


@dataclass(frozen=True)
class Table:
    """Rows that can be read again and again, and what to call them."""

    name: str
    source: str
    """As a model card prints it."""
    license: str
    rows: Rows


def opened_table(source: Any) -> Table | None:
    """Open rows.

    Args:
        source: A data set, a frame of pandas or polars, a table of Arrow, or an iterable of mappings or of chats, which can be
            read again and again.

    Returns:
        The rows, or None where the source holds no rows.
    """
    library = sys.modules.get("datasets")  # A data set only comes from where its library was imported.
    if library is not None and isinstance(source, library.Dataset | library.IterableDataset):
        name = source.info.dataset_name or "dataset"
        license = source.info.license or "unknown"
        return Table(name, f"{type(source).__name__} `{name}`", license, lambda: cast(Iterator[Row], iter(source)))
    if (rows := _frame_rows(source)) is not None:
        return Table("frame", f"{type(source).__name__} that was passed in", "unknown", rows)
    if not isinstance(source, Iterable) or isinstance(source, str | bytes | Path | Mapping):
        return None
    rows = partial(iter, source)
    first = next(rows(), None)
    if isinstance(first, Mapping):
        return Table("rows", "rows that were passed in", "unknown", partial(_checked_rows, rows))
    if is_chat(first):
        return Table("chats", "chats that were passed in", "unknown", lambda: ({"messages": chat} for chat in rows()))
    return None


def several(source: Any) -> list[Any] | None:
    """Take a list for several corpora, where it is one.

    Args:
        source: Anything.

    Returns:
        The sources, or None for a list of texts or of rows. Strings alone are corpora where each is a name or a file.
    """
    if not isinstance(source, list | tuple) or not source:
        return None
    if all(isinstance(item, str) for item in source):
        return list(source) if all(item in CORPORA or item == OWN or _is_file(item) for item in source) else None
    return list(source) if any(map(_is_corpus, source)) else None


def checked_texts(texts: Any) -> Callable[[], Iterator[str]]:
    """Open an iterable of strings.

    Args:
        texts: Them, which can be read again and again.

    Returns:
        What reads them, and refuses anything else.

    Raises:
        CorpusError: It is no iterable.
    """
    if not isinstance(texts, Iterable) or isinstance(texts, bytes):
        raise CorpusError(
            "A corpus must be a name, a path, a data set, or an iterable of strings or of rows, but got "
            f"{type(texts).__name__}. Rows are understood when they have {ACCEPTED}."
        )
    return partial(_checked_strings, partial(iter, texts))


class Replayed:
    """A one-shot iterator that can be read from its beginning again and again, held only as far as it was read."""

    def __init__(self, items: Iterator[Any]) -> None:
        """Read nothing yet.

        Args:
            items: The iterator, which is not to be read by anything else from here on.
        """
        (self._beginning,) = tee(items, 1)

    def __iter__(self) -> Iterator[Any]:
        """Read from the beginning."""
        return copy(self._beginning)


def _is_corpus(item: Any) -> bool:
    """Say whether an item of a list can only be a corpus of its own: neither a text, nor a row, nor a chat."""
    if isinstance(item, Mapping):
        return "train" in item
    return not (item is None or isinstance(item, str | bytes | int | float) or is_chat(item))


def _is_file(text: str) -> bool:
    """Say whether a string is the path of something that is there."""
    path, colon, _ = text.rpartition(":")
    return exists(Path(text)) or (bool(colon) and exists(Path(path)))


def _frame_rows(source: Any) -> Rows | None:
    """Read the rows of a frame, whichever library it is of; None where it is no frame."""
    library = type(source).__module__.partition(".")[0]
    if library == "pandas" and hasattr(source, "itertuples") and hasattr(source, "columns"):
        return partial(_pandas_rows, source)
    if library == "polars" and hasattr(source, "iter_rows"):
        return lambda: source.iter_rows(named=True)
    if library == "pyarrow" and hasattr(source, "to_pylist"):
        return lambda: iter(source.to_pylist())
    return None


def _pandas_rows(frame: Any) -> Iterator[Row]:
    """The rows of a pandas frame, in which an empty cell is NaN and a list may have become an array."""
    for row in frame.to_dict("records"):
        yield {str(column): _plain(value) for column, value in row.items()}


def _plain(value: Any) -> Any:
    """A cell of a frame as Python writes it."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _checked_rows(rows: Rows) -> Iterator[Row]:
    """Pass rows on and refuse anything else."""
    for number, row in enumerate(rows()):
        if not isinstance(row, Mapping):
            raise CorpusError(f"Rows must be mappings of columns, but row {number} is of type {type(row).__name__}.")
        yield row


def _checked_strings(read: Callable[[], Iterator[Any]]) -> Iterator[str]:
    """Pass strings on and refuse anything else."""
    for number, item in enumerate(read()):
        if not isinstance(item, str):
            raise CorpusError(
                f"Documents must be strings, but item {number} is of type {type(item).__name__}. Pass texts, or rows that have "
                f"{ACCEPTED}."
            )
        yield whole_text(item)
