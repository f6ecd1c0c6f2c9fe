"""Folders and files that are written whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from huggingface_hub import constants
from safetensors import SafetensorError

from hf_untangle.errors import OutputError

MARKER = "untangle.json"
"""Every folder of ours holds a file of this name, so that we know it again before we replace it."""


def cache_folder() -> Path:
    """Where dequantized checkpoints are kept: `HF_UNTANGLE_CACHE`, or a folder of ours in `HF_HOME`."""
    return Path(os.environ.get("HF_UNTANGLE_CACHE") or Path(constants.HF_HOME) / "hf_untangle")


def check_replaceable(folder: str | Path) -> Path:
    """Refuse a folder that exists, is not empty, and was not written by this package.

    Args:
        folder: Where something is to be written.

    Returns:
        The folder as an absolute path.

    Raises:
        OutputError: The folder is a file, or holds things that are not ours.
    """
    path = Path(folder).expanduser().absolute()
    if path.is_file():
        raise OutputError(f"The output must be a folder, but `{folder}` is a file. Choose another name.")
    if path.is_dir() and any(path.iterdir()) and not (path / MARKER).exists():
        raise OutputError(
            f"The folder `{folder}` exists and was not written by hf_untangle (it has no {MARKER}). "
            "Nothing in it was touched: choose another folder, or empty this one."
        )
    return path


@contextmanager
def whole_file(file: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: the body writes a hidden sibling, which takes the final name when it has succeeded.

    Args:
        file: The final name. What is there is replaced.

    Yields:
        The file to write.

    Raises:
        OutputError: The file cannot be written.
    """
    final = Path(file)
    draft = final.with_name(f".{final.name}.draft")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(final)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"Writing `{file}` failed ({error}). What was there before is untouched: free some space or choose another."
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink()


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """Write a folder whole or not at all.

    The body writes into a hidden sibling, which takes the final name only when the body has succeeded. A folder of ours
    that was there before stays as it was until that moment, also when the disk is full or the program is stopped.

    Args:
        folder: The final name.

    Yields:
        The folder to write into.

    Raises:
        OutputError: The folder is not ours to replace, or cannot be written.
    """
    final = check_replaceable(folder)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        draft.chmod(0o777 & ~_umask())
    except OSError as error:
        raise OutputError(f"The folder `{folder}` cannot be written: {error}.") from error
    try:
        yield draft
        _replace(draft, final)
    except OutputError:
        raise
    except (OSError, SafetensorError) as error:  # A full disk is the latter when it is full of tensors.
        raise OutputError(
            f"Writing `{folder}` failed ({error}). What was there before is untouched: free some space or choose another."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(draft: Path, final: Path) -> None:
    """Give the draft its final name; keep the old folder until the new one stands in its place."""
    if not final.exists():
        draft.rename(final)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{final.name}-old-", dir=final.parent))
    try:
        final.rename(old / "folder")
        draft.rename(final)
    finally:
        if not final.exists():
            (old / "folder").rename(final)
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
