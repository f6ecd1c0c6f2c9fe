"""Corpora that need no network: Python's standard library, prose and programs of this package, and questions on facts."""

import platform
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.resources import as_file, files
from pathlib import Path

from hf_untangle.data.documents import Document, Part
from hf_untangle.data.facts.invented import Facts, FactSplit, invented_facts
from hf_untangle.data.facts.world import world_facts
from hf_untangle.data.files import read_text, shuffled
from hf_untangle.data.row_formats import Row
from hf_untangle.data.rows import Rows, documents_of, find_shape
from hf_untangle.data.splits import PARTS
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
    read: Callable[[], Iterator[str | Document]]
    """Reads all documents lazily, from the beginning."""
    rows: Rows | None = None
    """Reads the rows that documents are made of, where these say more, such as wrong answers."""
    parts: Mapping[Part, Callable[[], Iterator[str | Document]]] = field(default_factory=dict)
    """Reads its parts, where they are drawn in another way than by a hash of every document."""


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


REGISTERS: tuple[Part, ...] = ("train", "validation", "train", "test", "train")
"""The parts that documents of one register go to in turn."""


def _prose(part: Part) -> Iterator[str]:
    """Read one part of the prose, which has as much of every register (fiction, letters, news, ...) as the others.

    Files are named by their register. A hash alone, of so few documents, left the test part without fiction, dialogues, letters
    and recipes, which lose more when neurons go than what explains and reports.
    """
    with as_file(files("hf_untangle.data") / "general") as folder:
        order = shuffled(folder.glob("*.*"), folder)
        dealt = sorted(order, key=lambda file: file.stem.partition("-")[0])
        mine = {file for number, file in enumerate(dealt) if REGISTERS[number % len(REGISTERS)] == part}
        yield from (read_text(file) for file in order if file in mine)


def _table(source: str, license: str, rows: Rows) -> Embedded:
    """Describe a corpus that is a table."""

    def read() -> Iterator[str | Document]:
        yield from documents_of(rows, find_shape(rows, None, None, source), None, source)

    return Embedded(source, license, read, rows)


@cache
def _facts() -> Facts:
    """The facts of seed 0, invented once."""
    return invented_facts()


def _invented(split: FactSplit) -> Iterator[Row]:
    """Read the questions on the entities of one split."""
    yield from getattr(_facts(), split)


def invented(split: FactSplit) -> Embedded:
    """Describe one split of the invented facts.

    Args:
        split: Which entities.

    Returns:
        The corpus of questions on them.
    """
    return _table("facts invented by hf_untangle (seed 0)", "Apache-2.0", partial(_invented, split))


STANDARD_LIBRARY = Embedded(f"Python {platform.python_version()} standard library", "PSF-2.0", _standard_library)
GENERAL_PROSE = Embedded(
    "prose written for hf_untangle",
    "Apache-2.0",
    partial(_files_of_this_package, "general"),
    parts={part: partial(_prose, part) for part in PARTS},
)
OTHER_CODE = Embedded(
    "programs in C, JavaScript, SQL, shell and others written for hf_untangle",
    "Apache-2.0",
    partial(_files_of_this_package, "other-code"),
)
WORLD_FACTS = _table("facts on the real world collected for hf_untangle", "Apache-2.0", lambda: iter(world_facts()))
