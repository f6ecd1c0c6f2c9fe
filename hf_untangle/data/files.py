"""Documents from files and folders on this machine, read lazily and never copied into a cache."""

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path

from hf_untangle.data.documents import Document
from hf_untangle.data.opening import COMPRESSED, kind_of, opened_text
from hf_untangle.data.row_formats import Shape
from hf_untangle.data.rows import documents_of, find_shape
from hf_untangle.data.table_files import TABLE_READERS, table_rows
from hf_untangle.errors import CorpusError

TEXT_KINDS = (".txt", ".md", ".py")
KINDS = (*TEXT_KINDS, *TABLE_READERS)

LEFT_OUT = ("node_modules", "__pycache__", "site-packages")
"""Folders that hold what others wrote, or machines. Hidden ones, such as `.git` and `.venv`, are left out too."""
DOCUMENT_CHARACTERS = 2_000
"""About how long a document cut from one long text file is."""


def file_documents(path: Path, column: str | None, group: str | None = None) -> Iterator[str | Document]:
    """Read the documents of a file or of every file below a folder.

    A table has one document per row. A text file below a folder is one document. A text file on its own is
    gathered into documents of about 2,000 characters, so that it can be parted into train and held-out text.

    Args:
        path: A file, a folder or a pattern that `check_files` accepted.
        column: The column of a table that holds the texts or chats, or None to find it.
        group: A column of a table whose equal values belong together.

    Yields:
        The documents. Those of a folder come file by file, in an order that is shuffled but always the same.
        A table below a folder without such a column, or text that is not UTF-8, is a `CorpusError`.
    """
    if (files := _files_of(path)) is not None:
        for file in shuffled(files, path):
            yield from _table(file, column, group) if kind_of(file) in TABLE_READERS else (read_text(file),)
    elif kind_of(path) in TABLE_READERS:
        yield from _table(path, column, group)
    else:
        yield from _passages(path)


def check_files(path: Path, column: str | None, group: str | None = None) -> Shape | None:
    """Make sure that documents can be read from a file or a folder.

    Args:
        path: A file, a folder, or a pattern that means files, such as `data/*.jsonl`.
        column: The column of a table that holds the texts or chats, or None to find it.
        group: A column of a table whose equal values belong together.

    Returns:
        What the rows are, of a folder those of its first table; None where there are texts and no table.

    Raises:
        CorpusError: The path does not exist, is of an unknown kind, is empty, or has no such column.
    """
    files = _files_of(path)
    if files is None and not exists(path):
        raise CorpusError(f"There is no file or folder `{str(path):.200}`. Check the path; a text itself goes into a list.")
    if files is not None:
        if not files:
            raise CorpusError(f"The folder `{path}` holds no file that can be read. {_kinds_sentence()}")
        table = next((file for file in shuffled(files, path) if kind_of(file) in TABLE_READERS), None)
        return None if table is None else find_shape(partial(table_rows, table), column, group, str(table))
    if kind_of(path) not in KINDS:
        raise CorpusError(f"`{path.name}` is of an unknown kind (`{path.suffix}`). {_kinds_sentence()}")
    if not path.stat().st_size:
        raise CorpusError(f"The file `{path}` is empty. A corpus needs at least one document.")
    if kind_of(path) in TABLE_READERS:
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
        root: The folder that the paths are taken relative to, or the pattern that means them.

    Returns:
        The same files in their fixed order.
    """
    base = root if root.is_dir() else Path(*takewhile(lambda part: not glob.has_magic(part), root.parts))
    return sorted(files, key=lambda file: hashlib.sha256(file.relative_to(base).as_posix().encode()).digest())


def read_text(path: Path) -> str:
    """Read a whole text file, which must be UTF-8.

    Args:
        path: The file.

    Returns:
        Its text.
    """
    with opened_text(path) as file:
        return file.read()


def _passages(path: Path) -> Iterator[str]:
    """Gather the paragraphs of one text file into documents of about 2,000 characters."""
    lines: list[str] = []
    length = 0
    with opened_text(path) as file:
        for line in file:
            lines.append(line)
            length += len(line)
            # A text without blank lines is cut between lines instead, once it is twice as long.
            if length >= (2 if line.strip() else 1) * DOCUMENT_CHARACTERS:
                yield "".join(lines)
                lines, length = [], 0
    if lines:
        yield "".join(lines)


def _table(path: Path, column: str | None, group: str | None) -> Iterator[str | Document]:
    """Read the documents of one table."""
    rows = partial(table_rows, path)
    return documents_of(rows, find_shape(rows, column, group, str(path)), group, str(path))


def _files_of(source: Path) -> list[Path] | None:
    """Every file of a known kind below a folder, or that a pattern such as `data/*.jsonl` means; None for anything else."""
    if exists(source):
        return [path for path in _visible(source) if kind_of(path) in KINDS] if source.is_dir() else None
    if not glob.has_magic(str(source)):
        return None
    found = [Path(path) for path in glob.glob(str(source), recursive=True)]  # noqa: PTH207 (hidden ones stay out)
    return [path for path in found if path.is_file() and kind_of(path) in KINDS] or None


def _visible(folder: Path) -> Iterator[Path]:
    """Every file below a folder, but for what is hidden, and for environments and packages of others."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in LEFT_OUT]
        if "pyvenv.cfg" in files:
            folders[:], files = [], []
        yield from (path for name in files if not name.startswith(".") and (path := Path(place, name)).is_file())


def _kinds_sentence() -> str:
    """Say which files can be read."""
    return f"Files must end in {', '.join(KINDS)}, and may be compressed ({', '.join(COMPRESSED)})."


def split_column(source: str | Path) -> tuple[Path, str | None]:
    """Take `data.csv:column` apart; a path that exists as it is written has no column.

    Args:
        source: A path, maybe with a column.

    Returns:
        The path, and the column where one is named.
    """
    path, colon, column = str(source).rpartition(":")
    if not colon or exists(Path(source)) or not (Path(path).suffix or exists(Path(path))):
        return Path(source), None
    return Path(path), column


def may_be_a_path(source: str) -> bool:
    """Tell a path, missing ones included, from a misspelt name.

    Args:
        source: What was passed in.

    Returns:
        True for what looks like a path, or is one.
    """
    return bool(source.strip()) and bool(Path(source).suffix) or any(mark in source for mark in "/\\:") or exists(Path(source))
