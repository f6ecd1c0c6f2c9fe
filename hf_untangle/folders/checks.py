"""What can be said about an output before anything long begins: its name, what is there, and whether it can be written."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from hf_untangle.errors import OutputError
from hf_untangle.folders.drafts import draft_in, recover
from hf_untangle.folders.listing import files_in, listed

NAMED = 3
"""How many of the files in the way an error names."""


def check_replaceable(folder: str | Path, *, source: str | Path | None = None, needs: int = 0) -> Path:
    """Refuse a folder that cannot be written, or that holds something else than what this package wrote.

    Args:
        folder: Where a folder is to be written.
        source: A folder or file that is read for it, which must not lie in it; any other name, such as a Hub id, is left alone.
        needs: Bytes that are going to be written.

    Returns:
        The folder as an absolute path; of a link, the folder that it leads to.

    Raises:
        OutputError: The folder is a file, holds things that are not ours, contains the source, is the working directory,
            cannot be written, or lies on a disk without enough space.
    """
    if source is not None and _is_there(source):
        check_apart(source, resolved(folder))
    path = check_folder(folder)
    _check_writable(path, folder, needs)
    return path


def check_file(file: str | Path) -> Path:
    """Refuse a file that cannot be written.

    Args:
        file: Where a file is to be written; one that exists is going to be replaced.

    Returns:
        The file as an absolute path; of a link, the file that it leads to.

    Raises:
        OutputError: It is a folder or a device, or cannot be written.
    """
    path = resolved(file)
    if path.is_dir():
        raise OutputError(f"The output must be a file, but `{file}` is a folder. Name a file, such as `{file}/result`.")
    if path.exists() and not path.is_file():
        raise OutputError(f"The output must be a file, but `{file}` is a device or a pipe. Choose another name.")
    _check_writable(path, file, 0)
    return path


def check_folder(folder: str | Path) -> Path:
    """Refuse a folder that holds something else than what this package wrote; nothing is tried out.

    Args:
        folder: Where a folder is to be written.

    Returns:
        The folder as an absolute path; of a link, the folder that it leads to.

    Raises:
        OutputError: The folder is a file, holds things that are not ours, or cannot be exchanged as a whole.
    """
    path = resolved(folder)
    recover(path)
    if not path.exists():
        return path
    if not path.is_dir():
        raise OutputError(f"The output must be a folder, but `{folder}` is a file. Choose another name.")
    if _is_within(Path.cwd(), path) or path.is_mount():
        raise OutputError(
            f"The folder `{folder}` is replaced as a whole, which cannot be done to a working directory or a mount point. "
            f"Name a folder in it, such as `{Path(folder) / 'result'}`."
        )
    if listed(path) is None and (there := list(files_in(path))):
        raise OutputError(
            f"The folder `{folder}` exists and was not written by hf_untangle: nothing lists {in_words(there)} as its files. "
            "Nothing in it was touched: choose another folder, or empty this one."
        )
    return path


def check_apart(source: str | Path, target: Path) -> None:
    """Refuse to replace a folder that something is read from.

    Folders are compared as the file system knows them, so that links, bind mounts and other spellings make no difference.

    Args:
        source: The folder or file that is read.
        target: The folder that is going to be written.

    Raises:
        OutputError: The source is the target, lies in it, or has a file that is a link into it.
    """
    read = resolved(source)
    files = [one for one in read.iterdir() if one.is_file()] if read.is_dir() else []
    for one in (read, *files):
        if _is_within(one.resolve(), target):
            raise OutputError(
                f"The output must not contain what it is made from, but `{source}` is read and lies in `{target}`, which would "
                "be replaced. Choose another output."
            )


def resolved(path: str | Path) -> Path:
    """Follow links and `~` to where a path leads.

    Args:
        path: Any path, existing or not.

    Returns:
        The same place as an absolute path without links.

    Raises:
        OutputError: It is not a path, or leads nowhere.
    """
    if not isinstance(path, str | Path):
        raise OutputError(f"An output must be a path, but got {type(path).__name__} ({path!r:.60}). Pass a string or a Path.")
    if not str(path).strip():
        raise OutputError("An output must have a name, but got an empty path. Name a folder or a file.")
    try:
        found = Path(path).expanduser().resolve()
        with suppress(FileNotFoundError):
            found.lstat()
        return found
    except (OSError, ValueError, RuntimeError) as error:  # Too long, a null character, links in a circle, an unknown `~user`.
        raise OutputError(f"The output `{path!s:.200}` is not a path that can be written: {error}.") from error


def in_words(files: list[Path]) -> str:
    """Name some files.

    Args:
        files: At least one.

    Returns:
        The first few, and how many there are besides.
    """
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(f"`{file}`" for file in sorted(files)[:NAMED]) + more


def _is_there(path: str | Path) -> bool:
    """Whether there is such a file or folder; a name that can be no path is none."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies in it, as the file system sees it."""
    if folder in (path, *path.parents):
        return True
    return folder.exists() and any(one.exists() and one.samefile(folder) for one in (path, *path.parents))


def _check_writable(path: Path, given: str | Path, needs: int) -> None:
    """Try to write where an output is going to be, and look for space."""
    place = next(one for one in path.parents if os.path.lexists(one))
    try:
        with draft_in(place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        raise OutputError(f"The output `{given}` cannot be written: {error}. Choose another place.") from error
    if needs > free:
        raise OutputError(
            f"The output `{given}` needs {needs / 1e9:.3g} GB, but its disk has {free / 1e9:.3g} GB left. Free some space or "
            "choose another place."
        )
