"""Processes that are killed in the middle of a call: at a random moment, or when they next touch a file.

Every try is a fork of the test's own process, which has imported everything and holds the models already.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hf_untangle.folders.drafts import PREFIX, recover

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
TOUCHING = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.chmod", "shutil.rmtree"})
"""Audit events of Python that read or write files."""


@dataclass(frozen=True)
class Operation:
    """A call that writes."""

    name: str
    call: Callable[[], object]
    """Runs in a working directory of its own, and writes `out`."""
    prepare: Callable[[Path], object]
    """Makes what is in that directory before, an older `out` among it."""


@dataclass(frozen=True)
class Undisturbed:
    """What an operation does when nobody kills it."""

    before: dict[str, str]
    """`out` before, see `contents`."""
    after: dict[str, str]
    """`out` after."""
    files: frozenset[str]
    """All files in the working directory after."""
    seconds: float
    touches: int
    """How often it touches a file there."""


def observe(operation: Operation, place: Path) -> Undisturbed:
    """Let an operation run to its end.

    Args:
        operation: The operation.
        place: Where to make its working directory.

    Returns:
        What it did.
    """
    work = _prepared(operation, place)
    before, start = contents(work / "out"), time.perf_counter()
    _must_end_well(_start(operation, work, None), work)
    seconds = time.perf_counter() - start
    touches = int((work.parent / "touches").read_text())
    return Undisturbed(before, contents(work / "out"), _files(work), seconds, touches)


def kill(operation: Operation, place: Path, undisturbed: Undisturbed, chance: random.Random) -> list[str]:
    """Kill an operation once, look at what it left, run it again, and look again.

    Args:
        operation: The operation.
        place: Where to make its working directory.
        undisturbed: What it does when nobody kills it.
        chance: Chooses signal and moment: half of the kills come when the process touches a file.

    Returns:
        What is wrong, in words.
    """
    work = _prepared(operation, place)
    number, at_file = chance.choice(SIGNALS), chance.random() < 0.5
    moment = chance.randrange(undisturbed.touches) if at_file else chance.uniform(0, undisturbed.seconds)
    child = _start(operation, work, (number, moment) if at_file else None)
    if not at_file:
        time.sleep(moment)
        with suppress(ProcessLookupError):
            os.kill(child, number)
    os.waitpid(child, 0)
    wrong = []
    recover(work / "out")
    if contents(work / "out") not in (undisturbed.before, undisturbed.after):
        wrong.append("half-written")
    _must_end_well(_start(operation, work, None), work)
    if contents(work / "out") != undisturbed.after:
        wrong.append("another result after the rerun")
    if left := _files(work) - undisturbed.files:
        wrong.append(f"left after the rerun: {sorted(left)[:5]}")
    place_in_words = f"touch {moment} of {undisturbed.touches}" if at_file else f"{moment:.2f} of {undisturbed.seconds:.2f} s"
    return [f"{operation.name}, {number.name} at {place_in_words}: {one}" for one in wrong]


def contents(path: Path) -> dict[str, str]:
    """The files of a folder, or one file: tensors by their bytes, JSON that can be read, and how other files end.

    Args:
        path: A folder or a file, which may be missing.

    Returns:
        What tells one state from another, by relative path; drafts are left out.
    """
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): _content(file) for file in files if PREFIX not in str(file)}


def _content(file: Path) -> str:
    """What must not be half of a file."""
    whole = file.read_bytes()
    if whole[8:10] == b'{"':  # safetensors
        end = 8 + int.from_bytes(whole[:8], "little")
        # The writer puts the entries of the header into any order.
        return json.dumps(json.loads(whole[8:end]), sort_keys=True) + hashlib.sha256(whole[end:]).hexdigest()
    if file.suffix == ".json":
        return ",".join(map(str, json.loads(whole)))
    return whole[-200:].decode(errors="replace")


def _files(work: Path) -> frozenset[str]:
    """Everything in a working directory, folders of drafts among it."""
    return frozenset(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file() or PREFIX in path.name)


def _prepared(operation: Operation, place: Path) -> Path:
    """A fresh working directory."""
    shutil.rmtree(place, ignore_errors=True)
    work = place / "work"
    (work / "tmp").mkdir(parents=True)
    operation.prepare(work)
    return work


def _start(operation: Operation, work: Path, at_touch: tuple[signal.Signals, int] | None) -> int:
    """Run an operation in a fork of this process, which ends itself at a touch of a file if it is told to."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        _settle_in(work)
        touches = _watch(work, at_touch)
        operation.call()
        (work.parent / "touches").write_text(str(touches[0]))
        status = 0
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        (work.parent / "error").write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _settle_in(work: Path) -> None:
    """Give a forked process a directory, a cache and temporary files of its own, and the signals of any program."""
    os.chdir(work)
    os.environ.update(HF_UNTANGLE_CACHE=str(work / "cache"), TMPDIR=str(work / "tmp"))
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    silent = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(silent, descriptor)


def _watch(work: Path, at_touch: tuple[signal.Signals, int] | None) -> list[int]:
    """Count how often files in a directory are touched, and send this process a signal at one of the times."""
    count = [0]

    def see(event: str, arguments: tuple) -> None:
        if event in TOUCHING and str(work) in str(Path.cwd() / str(arguments[0])):
            count[0] += 1
            if at_touch is not None and count[0] == at_touch[1] + 1:
                os.kill(os.getpid(), at_touch[0])

    sys.addaudithook(see)
    return count


def _must_end_well(child: int, work: Path) -> None:
    """Wait for a process that nobody kills."""
    _, status = os.waitpid(child, 0)
    if status:
        error = work.parent / "error"
        raise AssertionError(error.read_text() if error.exists() else f"the process ended with {status}")
