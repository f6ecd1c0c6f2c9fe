"""What a process that is killed in the middle of writing leaves, and what the next call makes of it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hf_untangle.folders import MARKER, check_replaceable, recover, whole_file, whole_folder
from hf_untangle.folders.drafts import PREFIX
from hf_untangle.folders.listing import LISTING
from hf_untangle.interrupts import Terminated, sigterm_as_interrupt

WRITE = """
import os, signal, sys
from pathlib import Path
from hf_untangle.folders import changed_folder, whole_file, whole_folder

def end(kind, number=[0]):
    def ending(self, target):
        number[0] += 1
        if number[0] == at:
            os.kill(os.getpid(), getattr(signal, sys.argv[2]))
        return original(self, target)
    original = getattr(Path, kind)
    return ending

what, at = sys.argv[1], int(sys.argv[3])
Path.rename, Path.replace = end("rename"), end("replace")
if what == "folder":
    with whole_folder("out") as draft:
        (draft / "weights").write_text("new")
        (draft / "untangle.json").write_text("new")
        at or os.kill(os.getpid(), getattr(signal, sys.argv[2]))
elif what == "changed":
    with changed_folder("out") as draft:
        for name in ("untangle.json", "report", "weights"):
            (draft / name).write_text("new")
        at or os.kill(os.getpid(), getattr(signal, sys.argv[2]))
else:
    with whole_file("out/weights") as draft:
        draft.write_text("new")
        at or os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""
"""Writes `out`, and is killed before the rename of a given number, or in the middle of writing where that is 0."""


def write(folder: Path, text: str) -> None:
    """Write a folder as this package does."""
    with whole_folder(folder) as draft:
        (draft / "weights").write_text(text)
        (draft / MARKER).write_text(text)


def kill(folder: Path, what: str, name: str, at: int) -> None:
    """Let another process write `out` and be killed."""
    done = subprocess.run([sys.executable, "-c", WRITE, what, name, str(at)], cwd=folder, capture_output=True, check=False)
    assert done.returncode == -getattr(signal, name) or (name != "SIGKILL" and b"Terminated" in done.stderr), done.stderr


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file() and path.name != LISTING
    }


OLD, NEW = ({"weights": text, MARKER: text} for text in ("old", "new"))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_killed_process_leaves_the_old_folder_or_the_new_one_and_nothing_after_the_next_call(tmp_path, at):
    write(tmp_path / "out", "old")
    kill(tmp_path, "folder", "SIGKILL", at)
    check_replaceable(tmp_path / "out")
    assert contents(tmp_path / "out") == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_was_being_exchanged_is_found_again_by_who_reads_it(tmp_path):
    write(tmp_path / "out", "old")
    kill(tmp_path, "folder", "SIGKILL", 2)
    assert not (tmp_path / "out").exists()
    recover(tmp_path / "out")
    assert contents(tmp_path) == {f"out/{name}": text for name, text in OLD.items()}


def test_an_old_folder_that_was_being_deleted_is_not_taken_for_files_of_the_user(tmp_path, monkeypatch):
    with whole_folder(tmp_path / "out") as draft:
        (draft / MARKER).write_text("old")
        (draft / "weights").write_text("old")
    (tmp_path / "out" / "notes").write_text("of the user")

    def killed(draft: Path, **_: object) -> None:
        next(draft.rglob(LISTING)).unlink()

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with whole_folder(tmp_path / "out") as draft:
            (draft / MARKER).write_text("new")
    with whole_folder(tmp_path / "out") as draft:
        (draft / MARKER).write_text("newer")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([LISTING, MARKER, "notes"])
    assert not list(tmp_path.glob(f"{PREFIX}*"))


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_files_that_were_on_their_way_into_a_folder_arrive_all_or_not_at_all(tmp_path, at):
    write(tmp_path / "out", "old")
    kill(tmp_path, "changed", "SIGKILL", at)
    check_replaceable(tmp_path / "out")
    assert contents(tmp_path / "out") == (OLD if at == 1 else NEW | {"report": "new"})
    assert not list(tmp_path.rglob(f"{PREFIX}*"))


@pytest.mark.parametrize("what", ["folder", "file", "changed"])
def test_sigterm_leaves_nothing_behind_at_once(tmp_path, what):
    write(tmp_path / "out", "old")
    kill(tmp_path, what, "SIGTERM", 0)
    assert contents(tmp_path) == {f"out/{name}": text for name, text in OLD.items()}


def test_a_killed_file_leaves_nothing_after_the_next_call(tmp_path):
    write(tmp_path / "out", "old")
    kill(tmp_path, "file", "SIGKILL", 0)
    with whole_file(tmp_path / "out" / "other") as draft:
        draft.write_text("new")
    assert contents(tmp_path / "out") == OLD | {"other": "new"}


def test_the_draft_of_a_process_that_is_alive_is_left_alone(tmp_path):
    with whole_folder(tmp_path / "one") as draft:
        (draft / "weights").write_text("one")
        done = subprocess.run([sys.executable, "-c", WRITE, "folder", "SIGTERM", "9"], cwd=tmp_path, check=False)
        assert done.returncode == 0
    assert contents(tmp_path) == {"one/weights": "one"} | {f"out/{name}": text for name, text in NEW.items()}


def test_what_only_looks_like_a_draft_is_left_alone(tmp_path):
    (tmp_path / f"{PREFIX}notes").write_text("a file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to("elsewhere")
    write(tmp_path / "out", "new")
    assert len(list(tmp_path.iterdir())) == 4


def test_two_writers_of_one_folder_leave_one_of_both_whole(tmp_path):
    with whole_folder(tmp_path / "out") as draft:
        for name in ("weights", MARKER):
            (draft / name).write_text("new")
        write(tmp_path / "out", "old")
    assert contents(tmp_path / "out") == NEW


def test_sigterm_is_an_interrupt_inside_alone_and_a_handler_of_the_user_stays():
    with pytest.raises(Terminated), sigterm_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    seen = []
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with sigterm_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert seen == [signal.SIGTERM]


def test_threads_write_too_though_they_cannot_handle_signals(tmp_path):
    thread = threading.Thread(target=write, args=(tmp_path / "out", "new"))
    thread.start()
    thread.join()
    assert contents(tmp_path / "out") == NEW
