"""Opening files of text: compressed or not, in whatever encoding their first bytes name."""

import codecs
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow

from hf_untangle.errors import CorpusError
from hf_untangle.files.regular import Expected, open_regular

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""What pyarrow calls the compression of a file, by its last suffix."""
LONGEST_LINE = 1 << 28
"""Bytes of a line: a table of 256 MiB in one line is written as JSON lines instead."""
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


class _Lines(io.RawIOBase):
    """A stream of bytes that gives up where a line does not end: few bytes of a packed file can be a line of any length."""

    def __init__(self, stream: Any, path: Path) -> None:
        """Read from the beginning.

        Args:
            stream: What is read.
            path: Its file, for the message.
        """
        self._stream, self._path, self._length = stream, path, 0

    def readable(self) -> bool:
        """That it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes.

        Args:
            buffer: Where to.

        Returns:
            How many there were.

        Raises:
            CorpusError: They belong to a line that is too long.
        """
        count = self._stream.readinto(buffer) or 0
        end = bytes(buffer[:count]).rfind(b"\n")
        self._length = self._length + count if end < 0 else count - end - 1
        if self._length > LONGEST_LINE:
            raise CorpusError(
                f"A line of a file must be shorter than {LONGEST_LINE >> 20} MiB, got a longer one in `{self._path}`."
            )
        return count


@contextmanager
def opened_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked where it is compressed.

    Args:
        path: A file.

    Yields:
        Its bytes. A pipe, a device, or a sparse file is a `CorpusError`.
    """
    with open_regular(Expected(path, "a corpus", CorpusError)) as (file, _), ExitStack() as unpacking:
        compression = COMPRESSED.get(path.suffix.lower())
        if compression is None:
            yield file
        else:
            packed: Any = pyarrow.PythonFile(file, "r")
            stream = unpacking.enter_context(pyarrow.input_stream(packed, compression=compression))
            yield cast(IO[bytes], io.BufferedReader(cast(Any, stream)))


@contextmanager
def opened_text(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    """Open a text file for reading: UTF-8, or UTF-16 where it begins with a byte order mark, which is left out.

    Args:
        path: A file, compressed or not.
        newline: As in `open`.

    Yields:
        Its text. What is not in that encoding is a `CorpusError`, and so is a line that does not end.
    """
    try:
        with opened_bytes(path) as file:
            encoding = _encoding(file.read(3))
        with opened_bytes(path) as file:
            lines = io.BufferedReader(_Lines(file, path))
            with io.TextIOWrapper(lines, encoding=encoding, newline=newline) as text:
                yield text
    except UnicodeError as error:
        raise CorpusError(f"Text files must be UTF-8, but `{path}` is not. Convert it first.") from error


def _encoding(beginning: bytes) -> str:
    """The encoding that the first bytes of a file name."""
    return next((encoding for mark, encoding in MARKS.items() if beginning.startswith(mark)), "utf-8")
