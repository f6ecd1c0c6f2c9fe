"""Names that come out of files: each is a plain name in its own folder, and links lead nowhere."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from hf_untangle.errors import CheckpointError, UntangleError

logger = logging.getLogger("hf_untangle")

NOT_PLAIN = re.compile(r"[/\\:\x00-\x1f\x7f]")
"""Characters that lead to another folder, a drive or a stream on some system, or that are not for names."""
ABSOLUTE = re.compile(r"~?/|[A-Za-z]:\\|\\\\")
"""How the path of a file on this machine begins."""
PATH = re.compile(r"(?<![\w.~/:\\<-])(?:~?/|[A-Za-z]:\\)[^\s`'\",;()<>]+[/\\][^\s`'\",;()<>]+")
"""Such a path within a text."""


def is_plain_name(name: object) -> bool:
    """Tell whether something is the name of a file in a folder, and can be nothing else.

    Args:
        name: What a file says.

    Returns:
        Whether it has no separator, no drive, no control character, and is not a way up.
    """
    return isinstance(name, str) and 0 < len(name) <= 255 and name.strip(". ") != "" and not NOT_PLAIN.search(name)


def member(folder: Path, name: object, source: str, error: type[UntangleError] = CheckpointError) -> Path:
    """Resolve the name of a file that another file of the same folder states.

    Args:
        folder: The folder.
        name: What the other file says.
        source: The other file, for the message.
        error: What to raise.

    Returns:
        The file's path, which need not exist.

    Raises:
        UntangleError: The name could be of a file in another folder, or the file is a link out of the folder.
    """
    if not is_plain_name(name):
        raise error(
            f"`{source}` in `{folder}` must name files of this folder only, got {str(name)[:200]!r}. Nothing was read from "
            "there or written; download the folder again from a source that you trust."
        )
    if leads_out(folder, folder / str(name)):
        raise error(
            f"`{name}` in `{folder}` must be a file, got a link to a place outside the folder. Put the file itself there."
        )
    return folder / str(name)


def leads_out(folder: Path, path: Path) -> bool:
    """Tell whether a path in a folder is, through links, a file outside of it.

    The Hub's cache keeps its files in `blobs` beside `snapshots`, and links to them from there; those are the folder's own.

    Args:
        folder: The folder.
        path: A path in it.

    Returns:
        Whether the real file is elsewhere.
    """
    home, real = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    if real.is_relative_to(home):
        return False
    return not (home.parent.name == "snapshots" and real.parent == home.parent.parent / "blobs")


def own_files(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    """Find the files of a folder that match patterns, without those that are links out of it.

    Args:
        folder: The folder.
        patterns: As for `Path.glob`.

    Yields:
        Each file once, in order of the patterns and the names.
    """
    found = dict.fromkeys(path for pattern in patterns for path in sorted(folder.glob(pattern)))
    for path in found:
        if leads_out(folder, path):
            logger.warning("`%s` is a link to a place outside its folder and was left out.", path)
        elif path.is_file():
            yield path


def links_in(folder: str | Path) -> Iterator[str]:
    """Find the links in a folder.

    Args:
        folder: The folder.

    Yields:
        Their paths relative to it.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                yield path.relative_to(folder).as_posix()


def public_name(name: str) -> str:
    """Name a model or a file as anybody may read it.

    Args:
        name: An id on the Hub, or a path on this machine.

    Returns:
        The id, or the last part of the path.
    """
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..", "~")]
    is_id = len(parts) == name.count("/") + 1 <= 2 and not Path(name).exists()
    return name if is_id or not parts else parts[-1]


def is_absolute(name: str) -> bool:
    """Tell whether a name is a path from the root of some machine.

    Args:
        name: An id on the Hub, or a path.

    Returns:
        Whether it begins as such a path does.
    """
    return ABSOLUTE.match(name) is not None


def public_text(text: str) -> str:
    """Take the folders of this machine out of what is said of a source.

    Args:
        text: Such as `/home/me/a.txt, /home/me/b.csv (splits train, test)`.

    Returns:
        The same with the last parts of absolute paths alone.
    """
    pieces = []
    for piece in text.split(", "):
        path, bracket, rest = piece.partition(" (")
        pieces.append((public_name(path) if ABSOLUTE.match(path) else path) + bracket + rest)
    return PATH.sub(lambda found: public_name(found[0]), ", ".join(pieces))
