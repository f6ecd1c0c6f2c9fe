"""Rows of tables in files: CSV in every dialect, JSON, JSON lines and Parquet, read as a stream."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet

from hf_untangle.data.opening import kind_of, opened_bytes, opened_text
from hf_untangle.data.row_formats import Row
from hf_untangle.errors import CorpusError

DELIMITERS = ",;\t|"
"""What may stand between the cells of a CSV file, the most usual first."""
SAMPLED_ROWS = 1_000
"""Rows from which the columns, and which of them are numbers, are told."""
LONGEST_CELL = 1 << 30


def table_rows(path: Path) -> Iterator[Row]:
    """Read the rows of one table as a stream, which leaves nothing in the user's cache.

    Args:
        path: A file of `TABLE_READERS`, compressed or not.

    Yields:
        The rows, all with the columns of the first thousand. One that cannot be read is a `CorpusError`.
    """
    try:
        yield from _complete(TABLE_READERS[kind_of(path)](path))
    except CorpusError:
        raise
    except Exception as error:  # Each kind of table is read by another library, with errors of its own.
        raise CorpusError(f"The file `{path}` could not be read: {error or type(error).__name__}. Is it complete?") from error


def _complete(rows: Iterator[Row]) -> Iterator[Row]:
    """Give every row all columns; what a row lacks is an empty cell."""
    sample = list(islice(rows, SAMPLED_ROWS))
    columns = dict.fromkeys(column for row in sample for column in row)
    for row in chain(sample, rows):
        yield columns | dict(row)


def _csv_rows(path: Path) -> Iterator[Row]:
    """The rows of a table of separated cells."""
    csv.field_size_limit(LONGEST_CELL)
    with opened_text(path, newline="") as file:
        delimiter = "\t" if kind_of(path) == ".tsv" else _delimiter(file)
    with opened_text(path, newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        header = next(lines, [])
        sample = list(islice(_cells(lines, header), SAMPLED_ROWS))
        readers = [_reader_of(column) for column in zip(*sample, strict=True)]
        for cells in chain(sample, _cells(lines, header)):
            yield {name: read(cell) for name, read, cell in zip(header, readers, cells, strict=True)}


def _delimiter(lines: Iterable[str]) -> str:
    """The delimiter with which the first rows have cells of one number, and more than one."""
    sample = list(islice(lines, 50))
    for delimiter in DELIMITERS:
        widths = {len(cells) for cells in csv.reader(sample, delimiter=delimiter) if cells}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    # One column has no delimiter; where the sample ends within quotes, the header alone is looked at.
    return max(DELIMITERS, key=lambda delimiter: sample[0].count(delimiter)) if sample else ","


def _cells(lines: Iterable[list[str]], header: list[str]) -> Iterator[list[str]]:
    """The cells of every row, as many as the header has; blank lines are left out."""
    for number, cells in enumerate(lines):
        if len(cells) > len(header):
            raise ValueError(f"row {number} has {len(cells)} cells, but the header has {len(header)}")
        if cells:
            yield cells + [""] * (len(header) - len(cells))


def _reader_of(column: Iterable[str]) -> Callable[[str], Any]:
    """What the cells of a column are: numbers where all are, or words, of which `NA` and `null` are two."""
    filled = [cell for cell in column if cell]
    for kind in (int, float):
        if filled and all(_is_a(kind, cell) for cell in filled):
            return lambda cell: None if not cell else kind(cell) if _is_a(kind, cell) else cell
    return lambda cell: cell or None


def _is_a(kind: type[int] | type[float], cell: str) -> bool:
    """Whether a cell is a number, written with digits."""
    if not any(character.isdigit() for character in cell) or len(cell) > 40:
        return False
    try:
        kind(cell)
    except ValueError:
        return False
    return True


def _json_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSON file: a list of them, a mapping of columns, or in truth JSON lines."""
    with opened_text(path) as file:
        try:
            content = json.load(file)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            yield from _json_lines(path)
            return
    if isinstance(content, dict) and content and all(isinstance(column, list) for column in content.values()):
        rows: list[Any] = [dict(zip(content, cells, strict=True)) for cells in zip(*content.values(), strict=True)]
    else:
        rows = content if isinstance(content, list) else [content]
    yield from map(_as_row, rows)


def _json_lines(path: Path) -> Iterator[Row]:
    """The rows of a file with one JSON value a line."""
    with opened_text(path) as file:
        for line in file:
            if line.strip():
                yield _as_row(json.loads(line))


def _as_row(value: Any) -> Row:
    """One value of JSON as a row; a string is a text."""
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise ValueError(f"a row must be a mapping of columns to cells, got {type(value).__name__}")
    return value


def _parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file."""
    with opened_bytes(path) as file:
        seekable = file if file.seekable() else io.BytesIO(file.read())
        for batch in pyarrow.parquet.ParquetFile(seekable).iter_batches(SAMPLED_ROWS):
            yield from batch.to_pylist()


TABLE_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".parquet": _parquet_rows,
}
"""What reads the tables of each kind."""
