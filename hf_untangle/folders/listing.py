"""Which files in a folder are this package's own, so that nothing else in it is ever replaced."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

LISTING = ".untangle-files.json"
"""The file, in every folder that this package writes, that lists the files written there."""
MARKER = "untangle.json"
"""The record of what was done, in every folder that this package writes."""


def files_in(folder: Path) -> Iterator[Path]:
    """List everything below a folder that is not a folder; links are listed and never followed.

    Args:
        folder: A folder.

    Yields:
        Paths relative to it.
    """
    for place, folders, files in os.walk(folder):
        for name in (*files, *(one for one in folders if Path(place, one).is_symlink())):
            yield Path(place, name).relative_to(folder)


def listed(folder: Path) -> frozenset[Path] | None:
    """Read which files of a folder this package wrote.

    Args:
        folder: A folder.

    Returns:
        Their paths relative to the folder; None where there is no listing that can be read.
    """
    try:
        paths = json.loads((folder / LISTING).read_text(encoding="utf-8"))["files"]
        return frozenset(Path(path) for path in paths) | {Path(LISTING)}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def write_listing(folder: Path, files: Iterable[Path]) -> None:
    """Write down which files of a folder this package wrote.

    Args:
        folder: The folder.
        files: Their paths relative to it.
    """
    paths = sorted(path.as_posix() for path in files)
    (folder / LISTING).write_text(json.dumps({"files": paths}, indent=1) + "\n", encoding="utf-8")


def foreign(folder: Path) -> tuple[Path, ...]:
    """The files in a folder that this package did not write.

    Args:
        folder: A folder.

    Returns:
        Their paths relative to it, in order.
    """
    own = listed(folder) or frozenset()
    return tuple(sorted(path for path in files_in(folder) if path not in own))


def link(source: Path, target: Path, files: Iterable[Path]) -> None:
    """Give files of one folder to another one as hard links, where the disk has them.

    Args:
        source: The folder that has them.
        target: The folder that gets them.
        files: Paths relative to it.
    """
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(source / file, target / file, follow_symlinks=False)


def move_foreign(source: Path, target: Path) -> None:
    """Move the files that this package did not write to where they are missing.

    Args:
        source: The folder that is about to be deleted.
        target: The folder that stays.
    """
    for file in foreign(source):
        if not os.path.lexists(target / file):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).rename(target / file)
