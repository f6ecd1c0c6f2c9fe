"""Folders and files that are written whole or not at all."""

import os
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors import SafetensorError

from hf_untangle.errors import OutputError
from hf_untangle.folders import MARKER, cache_folder, check_replaceable, whole_file, whole_folder


def write(folder: Path, text: str) -> None:
    """Write a folder of ours."""
    with whole_folder(folder) as draft:
        (draft / MARKER).write_text("{}")
        (draft / "weights").write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_has_its_name_only_once_it_is_whole(tmp_path):
    final = tmp_path / "deep" / "out"
    with whole_folder(final) as draft:
        (draft / "weights").write_text("new")
        assert not final.exists()
        assert draft.parent == final.parent
    assert contents(tmp_path) == {"deep/out/weights": "new"}


def test_a_folder_of_ours_is_replaced_whole(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "leftover").write_text("of the old one")
    write(tmp_path / "out", "new")
    assert contents(tmp_path) == {f"out/{MARKER}": "{}", "out/weights": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "new")
    assert contents(tmp_path / "out")["weights"] == "new"


def test_a_folder_that_is_not_ours_is_refused_untouched(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    message = f"exists and was not written by hf_untangle .it has no {MARKER}.. Nothing in it was touched: choose another"
    with pytest.raises(OutputError, match=message):
        write(tmp_path / "thesis", "new")
    assert contents(tmp_path) == {"thesis/chapter.txt": "years of work"}


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="must be a folder, but `.*out` is a file. Choose another name"):
        check_replaceable(tmp_path / "out")


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="The folder `.*file/out` cannot be written"):
        write(tmp_path / "file" / "out", "new")


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
        if self.name.startswith(".out-") and target.name == "out" and self.parent == tmp_path:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        write(tmp_path / "out", "new")
    assert contents(tmp_path) == {f"out/{MARKER}": "{}", "out/weights": "old"}


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "out"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_as_open_to_others_as_any_new_folder(tmp_path):
    (tmp_path / "ordinary").mkdir()
    write(tmp_path / "out", "new")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


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


def test_a_file_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Writing `.*file/mask` failed"), whole_file(tmp_path / "file" / "mask"):
        pass


def test_the_home_folder_may_be_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(Path("~/out"), "new")
    assert contents(tmp_path / "out")["weights"] == "new"


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    assert cache_folder() == Path(os.environ["HF_UNTANGLE_CACHE"])
    monkeypatch.delenv("HF_UNTANGLE_CACHE")
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hf_untangle"
