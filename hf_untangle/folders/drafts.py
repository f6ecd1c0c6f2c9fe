"""Hidden folders beside an output, in which it is written before it takes its name.

A draft is a folder `.untangle-draft-*` that its process keeps locked. In it are `new`, what is being written; `old`, what had
the name before, while two folders are exchanged (`gone` once they are); or `ready`, files that are on their way into the folder
around the draft. A draft without a lock belongs to a process that was killed: the next call that writes into the same place
gives an old folder its name back, finishes the way of files that are ready, and deletes the rest.
"""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hf_untangle.folders.listing import files_in, move_foreign
from hf_untangle.folders.locks import BusyError, locked, release, take
from hf_untangle.interrupts import sigterm_as_interrupt

PREFIX = ".untangle-draft-"
NEW, OLD, READY, GONE = "new", "old", "ready", "gone"
PATIENCE = 10.0
"""Seconds to wait for another process that makes or clears drafts in the same place, which takes a moment."""


@contextmanager
def draft_in(parent: Path) -> Iterator[Path]:
    """Make a draft in a folder, and delete it at the end of the `with` block, also on SIGTERM.

    Args:
        parent: Where the output is going to be; made when it does not exist, and taken away again when nothing came of it.

    Yields:
        The draft, with an empty folder `new` in it.
    """
    with sigterm_as_interrupt():
        made = _make(parent)
        draft = descriptor = None
        try:
            draft, descriptor = _locked_draft(parent)
            (draft / NEW).mkdir()
            yield draft
        finally:
            if draft is not None:
                settle(draft)
            release(descriptor)
            for folder in made:
                with suppress(OSError):  # It is not empty, as it should be.
                    folder.rmdir()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder for the length of the `with` block that is deleted also on SIGTERM, or by the next call after a kill.

    Yields:
        An empty folder, in the system's folder for temporary files.
    """
    with draft_in(Path(tempfile.gettempdir())) as draft:
        yield draft / NEW


def clear_stale(parent: Path) -> None:
    """Delete the drafts of processes that were killed, and give folders that they were about to replace their names back.

    Args:
        parent: Where to look.
    """
    with suppress(OSError):
        for entry in sorted(parent.iterdir()):
            if entry.name.startswith(PREFIX) and entry.is_dir() and not entry.is_symlink():
                _clear(entry)


def recover(folder: Path) -> None:
    """Bring a folder, that a killed process was about to replace or to change, into a whole state before it is used.

    Args:
        folder: The folder, which may have lost its name.
    """
    with suppress(OSError, ValueError):  # The name may be too long, or none at all.
        if folder.is_dir():
            clear_stale(folder)
        elif any(folder.parent.glob(f"{PREFIX}*/{OLD}/{glob.escape(folder.name)}")):
            clear_stale(folder.parent)


def settle(draft: Path) -> None:
    """Undo an exchange that was broken off, or finish one that was not, and delete the draft.

    Args:
        draft: A draft that no other process uses. It stays where an old folder cannot be put back.
    """
    with suppress(OSError):
        move_ready(draft)
        for old in (draft / OLD).iterdir() if (draft / OLD).is_dir() else ():
            final = draft.parent / old.name
            if os.path.lexists(final):
                move_foreign(old, final)
            else:
                old.rename(final)
        if (draft / OLD).is_dir():
            # Half deleted it would lack the list of what is ours, and all of it would be taken for files of the user.
            (draft / OLD).rename(draft / GONE)
        shutil.rmtree(draft, ignore_errors=True)


def move_ready(draft: Path) -> None:
    """Move files that are ready into the folder around the draft.

    Args:
        draft: The draft.
    """
    ready = draft / READY
    for file in sorted(files_in(ready)):
        (draft.parent / file).parent.mkdir(parents=True, exist_ok=True)
        (ready / file).replace(draft.parent / file)


def _make(parent: Path) -> list[Path]:
    """Make a folder, and tell which folders had to be made, the innermost first."""
    missing = [one for one in (parent, *parent.parents) if not one.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    return missing


def _locked_draft(parent: Path) -> tuple[Path, int | None]:
    """Make a draft and lock it before another process can take it for a stale one."""
    with suppress(BusyError), locked(parent, patience=PATIENCE):
        return _make_draft(parent)
    return _make_draft(parent)


def _make_draft(parent: Path) -> tuple[Path, int | None]:
    """Clear stale drafts, make a new one, and lock it."""
    clear_stale(parent)
    draft = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    return draft, take(draft)


def _clear(draft: Path) -> None:
    """Settle a draft, unless its process is alive, or nobody can tell."""
    with suppress(BusyError):
        descriptor = take(draft)
        if descriptor is not None:
            try:
                settle(draft)
            finally:
                release(descriptor)
