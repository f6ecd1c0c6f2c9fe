"""Documents from files and folders on this machine, read lazily and never copied into a cache."""

import glob
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from datasets.io.csv import CsvDatasetReader
from datasets.io.json import JsonDatasetReader
from datasets.io.parquet import ParquetDatasetReader

from hf_untangle.data.documents import Document
from hf_untangle.data.rows import documents_of, find_shape
from hf_untangle.data.shapes import Row, Shape
from hf_untangle.errors import CorpusError

TEXT_KINDS = (".txt", ".md", ".py")
# `load_dataset` would report every file that is opened to the Hub, and wait for it when there is no network.
TABLE_READERS = {
    ".jsonl": JsonDatasetReader,
    ".json": JsonDatasetReader,
    ".csv": CsvDatasetReader,
    ".parquet": ParquetDatasetReader,
}
KINDS = (*TEXT_KINDS, *TABLE_READERS)

DOCUMENT_CHARACTERS = 2_000
"""About how long a document cut from one long text file is."""


def file_documents(path: Path, column: str | None, group: str | None = None) -> Iterator[str | Document]:
    """Read the documents of a file or of every file below a folder.

    A table has one document per row. A text file below a folder is one document. A text file on its own is
    gathered into documents of about 2,000 characters, so that it can be parted into train and held-out text.

    Args:
        path: A file or a folder that `check_files` accepted.
        column: The column of a table that holds the texts or chats, or None to find it.
        group: A column of a table whose equal values belong together.

    Yields:
        The documents. Those of a folder come file by file, in an order that is shuffled but always the same.
        A table below a folder without such a column, or text that is not UTF-8, is a `CorpusError`.
    """
    if path.is_dir():
        for file in shuffled(_known_files(path), path):
            yield from _table(file, column, group) if _kind(file) in TABLE_READERS else (read_text(file),)
    elif _kind(path) in TABLE_READERS:
        yield from _table(path, column, group)
    else:
        yield from _passages(path)


def check_files(path: Path, column: str | None, group: str | None = None) -> Shape | None:
    """Make sure that documents can be read from a file or a folder.

    Args:
        path: A file or a folder.
        column: The column of a table that holds the texts or chats, or None to find it.
        group: A column of a table whose equal values belong together.

    Returns:
        What the rows are, of a folder those of its first table; None where there are texts and no table.

    Raises:
        CorpusError: The path does not exist, is of an unknown kind, is empty, or has no such column.
    """
    if not exists(path):
        raise CorpusError(f"There is no file or folder `{str(path):.200}`. Check the path; a text itself goes into a list.")
    if path.is_dir():
        if not (files := _known_files(path)):
            raise CorpusError(f"The folder `{path}` holds no file that can be read. {_kinds_sentence()}")
        table = next((file for file in shuffled(files, path) if _kind(file) in TABLE_READERS), None)
        return None if table is None else find_shape(partial(table_rows, table), column, group, str(table))
    if _kind(path) not in KINDS:
        raise CorpusError(f"`{path.name}` is of an unknown kind (`{path.suffix}`). {_kinds_sentence()}")
    if not path.stat().st_size:
        raise CorpusError(f"The file `{path}` is empty. A corpus needs at least one document.")
    if _kind(path) in TABLE_READERS:
        return find_shape(partial(table_rows, path), column, group, str(path))
    if column is not None or group is not None:
        raise CorpusError(f"`{path.name}` is a text file and has no columns. Leave out the column `{column or group}`.")
    return None


def exists(path: Path) -> bool:
    """Tell whether there is such a file or folder.

    Args:
        path: A path, or a text that was taken for one.

    Returns:
        True when it is there; False also for what can be no path, being too long.
    """
    try:
        return path.exists()
    except OSError:
        return False


def shuffled(files: Iterable[Path], root: Path) -> list[Path]:
    """Put files into an order that looks random but is the same on every machine.

    The order is by a hash of each path below the root, so that reading only the first files is still reading
    a fair sample of all of them.

    Args:
        files: Files below `root`.
        root: The folder that the paths are taken relative to.

    Returns:
        The same files in their fixed order.
    """
    return sorted(files, key=lambda file: hashlib.sha256(file.relative_to(root).as_posix().encode()).digest())


def read_text(path: Path) -> str:
    """Read a whole text file, which must be UTF-8.

    Args:
        path: The file.

    Returns:
        Its text.
    """
    with _must_be_utf8(path):
        return path.read_text(encoding="utf-8")


def _passages(path: Path) -> Iterator[str]:
    """Gather the paragraphs of one text file into documents of about 2,000 characters."""
    lines: list[str] = []
    length = 0
    with _must_be_utf8(path), path.open(encoding="utf-8") as file:
        for line in file:
            lines.append(line)
            length += len(line)
            # A text without blank lines is cut between lines instead, once it is twice as long.
            if length >= (2 if line.strip() else 1) * DOCUMENT_CHARACTERS:
                yield "".join(lines)
                lines, length = [], 0
    if lines:
        yield "".join(lines)


@contextmanager
def _must_be_utf8(path: Path) -> Iterator[None]:
    """Say which file is not UTF-8 when one is not."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise CorpusError(f"Text files must be UTF-8, but `{path}` is not. Convert it first.") from error


def _table(path: Path, column: str | None, group: str | None) -> Iterator[str | Document]:
    """Read the documents of one table."""
    rows = partial(table_rows, path)
    return documents_of(rows, find_shape(rows, column, group, str(path)), group, str(path))


def table_rows(path: Path) -> Iterator[Row]:
    """Read the rows of one table as a stream, which leaves nothing in the user's cache.

    Args:
        path: A file of `TABLE_READERS`.

    Yields:
        The rows. One that cannot be read is a `CorpusError`.
    """
    # `datasets` takes the path for a pattern, in which brackets and stars mean other files.
    pattern = glob.escape(str(path.resolve()))
    try:
        yield from TABLE_READERS[_kind(path)](pattern, streaming=True).read()
    except Exception as error:  # Each kind of table is read by another library, with errors of its own.
        raise CorpusError(f"The file `{path}` could not be read: {error} Is it complete?") from error


def _kind(path: Path) -> str:
    """Tell the kind of a file from its suffix, in whatever case it is written."""
    return path.suffix.lower()


def _known_files(folder: Path) -> list[Path]:
    """List every file of a known kind below a folder."""
    return [path for path in folder.rglob("*") if _kind(path) in KINDS and path.is_file()]


def _kinds_sentence() -> str:
    """Say which files can be read."""
    return f"Files must end in {', '.join(KINDS)}."
