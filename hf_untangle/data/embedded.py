"""Corpora that need no network: Python's standard library, and the prose and programs that come with this package."""

import platform
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

from hf_untangle.data.files import read_text, shuffled
from hf_untangle.errors import CorpusError

NOT_STANDARD_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idlelib"}
"""Folders below the standard library that hold other people's code or text that is not typical code."""


@dataclass(frozen=True)
class Embedded:
    """A corpus that is already on this machine."""

    source: str
    """Where the text comes from, as a model card prints it."""
    license: str
    """SPDX identifier."""
    read: Callable[[], Iterator[str]]
    """Reads all documents lazily, from the beginning."""


def _standard_library() -> Iterator[str]:
    """Read the Python files of the running interpreter's standard library, in a fixed shuffled order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in shuffled(_python_files(root), root):
        # A few files of the library are there to test odd encodings, or may not be readable.
        with suppress(CorpusError, OSError):
            yield read_text(path)


def _python_files(folder: Path) -> Iterator[Path]:
    """Find the Python files below a folder, without walking through the folders that are left out."""
    for path in folder.iterdir():
        if path.is_dir():
            if path.name not in NOT_STANDARD_LIBRARY:
                yield from _python_files(path)
        elif path.suffix == ".py":
            yield path


def _files_of_this_package(name: str) -> Iterator[str]:
    """Read a folder of this package, one file a document, in a fixed shuffled order."""
    with as_file(files("hf_untangle.data") / name) as folder:
        yield from map(read_text, shuffled(folder.glob("*.*"), folder))


STANDARD_LIBRARY = Embedded(f"Python {platform.python_version()} standard library", "PSF-2.0", _standard_library)
GENERAL_PROSE = Embedded("prose written for hf_untangle", "Apache-2.0", partial(_files_of_this_package, "general"))
OTHER_CODE = Embedded(
    "programs in C, JavaScript, SQL, shell and others written for hf_untangle",
    "Apache-2.0",
    partial(_files_of_this_package, "other-code"),
)
