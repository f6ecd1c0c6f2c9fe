"""Folders and files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE

from safetensors import SafetensorError

from hf_untangle.errors import OutputError
from hf_untangle.folders.checks import check_file, check_folder, in_words, resolved
from hf_untangle.folders.drafts import NEW, OLD, PATIENCE, READY, draft_in, move_ready, recover
from hf_untangle.folders.listing import LISTING, MARKER, files_in, foreign, link, listed, write_listing
from hf_untangle.folders.locks import BusyError, locked

READERS = 60.0
"""Seconds to wait for other processes that read a folder which is about to be replaced."""


@contextmanager
def whole_file(file: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: the body writes a draft, which takes the final name when it has succeeded.

    Args:
        file: The final name. What is there is replaced; a link stays a link, and what it leads to is replaced.

    Yields:
        The file to write.

    Raises:
        OutputError: The file cannot be written.
    """
    with _clear_errors(file):
        final = check_file(file)
        with draft_in(final.parent) as draft:
            new = draft / NEW / final.name
            yield new
            if final.exists():
                new.chmod(S_IMODE(final.stat().st_mode))
            new.replace(final)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """Write a folder whole or not at all.

    The body writes into a hidden draft beside it, which takes the final name only when the body has succeeded. A folder of
    this package that was there before stays as it was until that moment, also when the disk is full or the program is
    killed. Files in it that this package did not write are kept.

    Args:
        folder: The final name; a link stays a link, and the folder that it leads to is replaced.

    Yields:
        The folder to write into.

    Raises:
        OutputError: The folder is not ours to replace, or cannot be written.
    """
    with _clear_errors(folder):
        final = check_folder(folder)
        with draft_in(final.parent) as draft:
            new = draft / NEW / final.name
            new.mkdir()
            yield new
            write_listing(new, files_in(new))
            with suppress(BusyError), locked(final.parent, patience=PATIENCE):
                _take_name(draft, new, final)
                return
            _take_name(draft, new, final)


@contextmanager
def changed_folder(folder: str | Path) -> Iterator[Path]:
    """Replace some files of a folder that this package wrote, or add some, all of them or none.

    Args:
        folder: The folder.

    Yields:
        An empty folder to write the files into.

    Raises:
        OutputError: A file of the user's is in the way, or the folder cannot be written.
    """
    with _clear_errors(folder):
        final = resolved(folder)
        recover(final)
        if listed(final) is None and not (final / MARKER).is_file():
            raise OutputError(
                f"Only what hf_untangle wrote can be changed, but `{folder}` has no {MARKER}. Save the result first."
            )
        with draft_in(final) as draft:
            new = draft / NEW
            yield new
            if (own := listed(final)) is not None:
                _check_not_in_the_way(new, final)
                write_listing(new, own | set(files_in(new)))
            new.rename(draft / READY)
            move_ready(draft)


def _take_name(draft: Path, new: Path, final: Path) -> None:
    """Give the draft its final name; what has it so far is kept until the new folder has taken its place."""
    check_folder(final)  # Another process may have written there in the meantime.
    if not final.exists():
        new.rename(final)
        return
    _check_not_in_the_way(new, final)
    new.chmod(S_IMODE(final.stat().st_mode))
    link(final, new, foreign(final))
    (draft / OLD).mkdir()
    try:
        with locked(final, patience=READERS):
            final.rename(draft / OLD / final.name)
            new.rename(final)
    except BusyError as error:
        raise OutputError(f"The folder `{final}` is being read by another process. Wait for it, or choose another.") from error


def _check_not_in_the_way(new: Path, final: Path) -> None:
    """Refuse to replace files that are not ours."""
    if taken := [file for file in foreign(final) if os.path.lexists(new / file) and file != Path(LISTING)]:
        raise OutputError(
            f"The folder `{final}` holds {in_words(taken)}, which hf_untangle did not write and would have to replace. Move it "
            "away, or choose another folder."
        )


@contextmanager
def _clear_errors(output: str | Path) -> Iterator[None]:
    """Say which output could not be written, and that nothing is lost."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, SafetensorError) as error:  # A full disk is the latter when it is full of tensors.
        raise OutputError(
            f"Writing `{output}` failed ({error}). What was there before is untouched: free some space or choose another."
        ) from error
