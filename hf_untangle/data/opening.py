"""Opening files of text: compressed or not, in whatever encoding their first bytes name."""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow

from hf_untangle.errors import CorpusError

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""What pyarrow calls the compression of a file, by its last suffix."""
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the byte order mark that a file begins with, as programs on Windows write it."""


def kind_of(path: Path) -> str:
    """Tell the kind of a file from its suffix, in whatever case it is written.

    Args:
        path: A file, such as `data.jsonl.gz`.

    Returns:
        The suffix, that of a compression left out: `.jsonl`.
    """
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return plain.suffix.lower()


@contextmanager
def opened_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked where it is compressed.

    Args:
        path: A file.

    Yields:
        Its bytes.
    """
    compression = COMPRESSED.get(path.suffix.lower())
    if compression is None:
        with path.open("rb") as file:
            yield file
    else:
        with pyarrow.input_stream(str(path), compression=compression) as stream:
            yield cast(IO[bytes], io.BufferedReader(cast(Any, stream)))


@contextmanager
def opened_text(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    """Open a text file for reading: UTF-8, or UTF-16 where it begins with a byte order mark, which is left out.

    Args:
        path: A file, compressed or not.
        newline: As in `open`.

    Yields:
        Its text. What is not in that encoding is a `CorpusError`.
    """
    try:
        with opened_bytes(path) as file:
            encoding = _encoding(file.read(3))
        with opened_bytes(path) as file, io.TextIOWrapper(file, encoding=encoding, newline=newline) as text:
            yield text
    except UnicodeError as error:
        raise CorpusError(f"Text files must be UTF-8, but `{path}` is not. Convert it first.") from error


def _encoding(beginning: bytes) -> str:
    """The encoding that the first bytes of a file name."""
    return next((encoding for mark, encoding in MARKS.items() if beginning.startswith(mark)), "utf-8")
