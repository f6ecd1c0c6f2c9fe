"""Folders and files that are written whole or not at all."""

import os
import shutil
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors import SafetensorError

from hf_untangle.errors import OutputError
from hf_untangle.folders import (
    MARKER,
    cache_folder,
    changed_folder,
    check_apart,
    check_file,
    check_replaceable,
    whole_file,
    whole_folder,
)
from hf_untangle.folders.listing import LISTING
from hf_untangle.folders.locks import BusyError, release, take, undisturbed


def write(folder: Path, text: str) -> None:
    """Write a folder as this package does."""
    with whole_folder(folder) as draft:
        (draft / MARKER).write_text("{}")
        (draft / "weights").write_text(text)


def contents(folder: Path) -> dict[str, str]:
    """What a user would see in a folder, and any draft that was left behind."""
    return {
        str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file() and path.name != LISTING
    }


def test_a_folder_has_its_name_only_once_it_is_whole(tmp_path):
    final = tmp_path / "deep" / "out"
    with whole_folder(final) as draft:
        (draft / "weights").write_text("new")
        assert not final.exists()
        assert draft.stat().st_dev == final.parent.stat().st_dev
    assert contents(tmp_path) == {"deep/out/weights": "new"}


def test_a_folder_of_ours_is_replaced_and_what_the_user_put_there_is_kept(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "notes").mkdir()
    (tmp_path / "out" / "notes" / "today").write_text("of the user")
    (tmp_path / "out" / "link").symlink_to("notes")
    with whole_folder(tmp_path / "out") as draft:
        (draft / "other").write_text("new")
        (tmp_path / "out" / "late").write_text("came while it was written")
    kept = {"out/notes/today": "of the user", "out/late": "came while it was written"}
    assert contents(tmp_path) == {"out/other": "new"} | kept
    assert (tmp_path / "out" / "link").readlink() == Path("notes")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_nothing_can_be_linked_files_of_the_user_are_moved(tmp_path, monkeypatch):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "notes").write_text("of the user")

    def no_links(*_: object, **__: object) -> None:
        raise OSError("no links on this disk")

    monkeypatch.setattr(os, "link", no_links)
    write(tmp_path / "out", "new")
    assert contents(tmp_path) == {f"out/{MARKER}": "{}", "out/weights": "new", "out/notes": "of the user"}


def test_a_file_of_the_user_is_never_replaced(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "report").write_text("of the user")
    message = "holds `report`, which hf_untangle did not write and would have to replace. Move it away, or choose another"
    with pytest.raises(OutputError, match=message), whole_folder(tmp_path / "out") as draft:
        (draft / "report").write_text("new")
    with pytest.raises(OutputError, match=message), changed_folder(tmp_path / "out") as draft:
        (draft / "report").write_text("new")
    assert contents(tmp_path) == {f"out/{MARKER}": "{}", "out/weights": "old", "out/report": "of the user"}


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "new")
    assert contents(tmp_path / "out")["weights"] == "new"


@pytest.mark.parametrize("name", ["chapter.txt", MARKER, "deep/chapter.txt"])
def test_a_folder_that_is_not_ours_is_refused_untouched(tmp_path, name):
    (tmp_path / "thesis" / name).parent.mkdir(parents=True)
    (tmp_path / "thesis" / name).write_text("years of work")
    message = f"exists and was not written by hf_untangle: nothing lists `{name}` as its files. Nothing in it was touched"
    with pytest.raises(OutputError, match=message):
        write(tmp_path / "thesis", "new")
    assert contents(tmp_path) == {f"thesis/{name}": "years of work"}


@pytest.mark.parametrize("listing", ["", "[]", "{}", '{"files": 7}', '{"files": [7]}', "[" * 100_000])
def test_a_damaged_listing_lists_nothing(tmp_path, listing):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / LISTING).write_text(listing)
    with pytest.raises(OutputError, match="was not written by hf_untangle"):
        write(tmp_path / "out", "new")
    assert contents(tmp_path)["out/weights"] == "old"


def test_a_link_stays_a_link_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "large_disk" / "deep").mkdir(parents=True)
    (tmp_path / "out").symlink_to("large_disk/deep/out")
    (tmp_path / "numbers").symlink_to(tmp_path / "large_disk" / "numbers")
    for text in ("old", "new"):
        write(tmp_path / "out", text)
        with whole_file(tmp_path / "numbers") as draft:
            draft.write_text(text)
    assert (tmp_path / "out").is_symlink() and (tmp_path / "numbers").is_symlink()
    assert contents(tmp_path / "large_disk") == {f"deep/out/{MARKER}": "{}", "deep/out/weights": "new", "numbers": "new"}


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="must be a folder, but `.*out` is a file. Choose another name"):
        check_replaceable(tmp_path / "out")


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(OutputError, match="must be a file, but `.*` is a folder. Name a file"):
        check_file(tmp_path)


def test_a_device_is_never_replaced():
    with pytest.raises(OutputError, match="must be a file, but `/dev/null` is a device or a pipe"):
        check_file("/dev/null")


def test_the_working_directory_is_refused_as_its_shell_would_stand_in_nothing(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    for folder in (".", "..", tmp_path / "deep"):
        with pytest.raises(OutputError, match="cannot be done to a working directory or a mount point. Name a folder in it"):
            check_replaceable(folder)


@pytest.mark.parametrize("folder", ["", " ", "a\0b", "x" * 300, "~nobody_has_this_name/out"])
def test_what_is_no_path_is_refused_in_one_sentence(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for check in (check_replaceable, check_file):
        with pytest.raises(OutputError, match="output"):
            check(folder)
    assert not any(tmp_path.iterdir())


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OutputError, match="is not a path that can be written"):
        check_replaceable(tmp_path / "one")


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is not a path that can be written: .*Not a directory"):
        write(tmp_path / "file" / "out", "new")
    with pytest.raises(OutputError, match="is not a path that can be written: .*Not a directory"):
        check_file(tmp_path / "file" / "mask")


def test_a_place_that_cannot_be_written_is_known_before_anything_begins():
    for check in (check_replaceable, check_file):
        with pytest.raises(OutputError, match="The output `/proc/deep/out` cannot be written: .* Choose another place"):
            check("/proc/deep/out")


def test_a_disk_without_enough_space_is_known_before_anything_begins(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    check_replaceable(tmp_path / "deep" / "out", needs=free // 2)
    with pytest.raises(OutputError, match=r"needs \S+ GB, but its disk has \S+ GB left. Free some space or choose another"):
        check_replaceable(tmp_path / "deep" / "out", needs=2 * free)
    assert not any(tmp_path.iterdir())


DISK_FULL = [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")]


@pytest.mark.parametrize("error", DISK_FULL, ids=["os", "safetensors"])
def test_when_the_disk_is_full_the_old_folder_stays_and_nothing_is_left_behind(tmp_path, error):
    write(tmp_path / "out", "old")
    message = "failed .*No space left on device.* What was there before is untouched: free some space or choose another"
    with pytest.raises(OutputError, match=message), whole_folder(tmp_path / "out") as draft:
        (draft / "weights").write_text("half")
        raise error
    assert contents(tmp_path) == {f"out/{MARKER}": "{}", "out/weights": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interruption_leaves_the_old_folder_and_nothing_else(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "out") as draft:
        (draft / "weights").write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {f"out/{MARKER}": "{}", "out/weights": "old"}


@pytest.mark.parametrize("error", [OSError("busy"), KeyboardInterrupt()], ids=["error", "interruption"])
def test_when_the_last_rename_fails_the_old_folder_is_put_back(tmp_path, monkeypatch, error):
    write(tmp_path / "out", "old")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.parent.name == "new" and target.parent == tmp_path:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        write(tmp_path / "out", "new")
    assert contents(tmp_path) == {f"out/{MARKER}": "{}", "out/weights": "old"}


def test_other_errors_pass_as_they_are_and_take_new_parents_with_them(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "deep" / "deeper" / "out"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_as_open_to_others_as_any_new_folder(tmp_path):
    (tmp_path / "ordinary").mkdir()
    write(tmp_path / "out", "new")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_what_was_private_stays_private(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out").chmod(0o700)
    (tmp_path / "numbers").write_text("old")
    (tmp_path / "numbers").chmod(0o600)
    write(tmp_path / "out", "new")
    with whole_file(tmp_path / "numbers") as draft:
        draft.write_text("new")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("out", "numbers")] == [0o700, 0o600]


def test_a_folder_is_changed_in_all_of_some_files_or_in_none(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "notes").write_text("of the user")
    with changed_folder(tmp_path / "out") as draft:
        (draft / "plots").mkdir()
        (draft / "plots" / "one").write_text("new")
        (draft / MARKER).write_text("{1}")
        assert not (tmp_path / "out" / "plots").exists()
    whole = {f"out/{MARKER}": "{1}", "out/weights": "old", "out/notes": "of the user", "out/plots/one": "new"}
    assert contents(tmp_path) == whole
    with pytest.raises(ZeroDivisionError), changed_folder(tmp_path / "out") as draft:
        (draft / "weights").write_text("half")
        raise ZeroDivisionError
    assert contents(tmp_path) == whole
    write(tmp_path / "out", "new")
    assert contents(tmp_path) == {f"out/{MARKER}": "{}", "out/weights": "new", "out/notes": "of the user"}


@pytest.mark.parametrize("below", [".", "inner", "inner/file"])
@pytest.mark.parametrize("spelling", ["a", "a/inner/..", "link", "up/a"])
def test_a_folder_never_replaces_what_it_is_made_from(tmp_path, monkeypatch, below, spelling):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "inner").mkdir(parents=True)
    (tmp_path / "a" / "inner" / "file").write_text("weights")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "up").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="must not contain what it is made from, but `.*` is read and lies in .*. Choose"):
        check_apart(Path(spelling, below), (tmp_path / "a").resolve())
    check_apart(Path(spelling, below), tmp_path / "b")
    check_apart(tmp_path, tmp_path / "a" / "small")


def test_a_folder_whose_files_are_links_into_the_output_is_not_apart(tmp_path):
    for name in ("blobs", "snapshot"):
        (tmp_path / name).mkdir()
    (tmp_path / "blobs" / "weights").write_text("weights")
    (tmp_path / "snapshot" / "weights").symlink_to("../blobs/weights")
    with pytest.raises(OutputError, match="must not contain what it is made from"):
        check_apart(tmp_path / "snapshot", tmp_path / "blobs")


def test_a_file_has_its_name_only_once_it_is_whole(tmp_path):
    with whole_file(tmp_path / "deep" / "mask") as draft:
        draft.write_text("new")
        assert not (tmp_path / "deep" / "mask").exists()
    assert contents(tmp_path) == {"deep/mask": "new"}


@pytest.mark.parametrize("error", DISK_FULL, ids=["os", "safetensors"])
def test_when_the_disk_is_full_the_old_file_stays_and_nothing_is_left_behind(tmp_path, error):
    (tmp_path / "mask").write_text("old")
    with pytest.raises(OutputError, match="No space left on device"), whole_file(tmp_path / "mask") as draft:
        draft.write_text("half")
        raise error
    assert contents(tmp_path) == {"mask": "old"}


def test_the_home_folder_may_be_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(Path("~/out"), "new")
    assert contents(tmp_path / "out")["weights"] == "new"


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    assert cache_folder() == Path(os.environ["HF_UNTANGLE_CACHE"])
    monkeypatch.delenv("HF_UNTANGLE_CACHE")
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hf_untangle"


def test_a_process_does_not_wait_for_itself(tmp_path):
    start = time.monotonic()
    with undisturbed(tmp_path), undisturbed(tmp_path), pytest.raises(BusyError):
        take(tmp_path, patience=60)
    assert time.monotonic() - start < 30
    release(take(tmp_path))
