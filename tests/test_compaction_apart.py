"""Source and target of compaction from folder to folder: the one is only read, the other is replaced whole."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.folder_to_folder import compact_folder, remove_folder
from hf_untangle.errors import OutputError
from hf_untangle.masks.mask import NeuronMask


@pytest.fixture
def mask(tiny_model, tmp_path, monkeypatch) -> NeuronMask:
    """A mask of the checkpoint `a`, which lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    model = tiny_model("llama")
    model.save_pretrained("a")
    mask = NeuronMask.keep_all(neuron_groups(model), "a")
    return mask.with_kept({name: torch.arange(len(kept)) > 0 for name, kept in mask.items()})


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("target", ["a", "a/../a", "link", "up/a", "outer"])
def test_the_source_is_never_replaced(mask, tmp_path, target):
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "up").symlink_to(".")
    remove_folder("a", "outer", mask)
    shutil.copytree("a", "outer/inner")
    before = contents(tmp_path)
    source = "outer/inner" if target == "outer" else "a"
    for change in (remove_folder, compact_folder):
        with pytest.raises(OutputError, match="must not contain what it is made from"):
            change(source, target, mask)
    assert contents(tmp_path) == before


def test_a_source_of_links_keeps_what_they_lead_to(mask, tmp_path):
    remove_folder("a", "outer", mask)
    (tmp_path / "snapshot").mkdir()
    for file in (tmp_path / "outer").iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="must not contain what it is made from"):
        remove_folder("snapshot", "outer", mask)
    assert contents(tmp_path) == before


def test_a_folder_in_the_source_is_kept_when_the_source_is_written_again(mask, tmp_path):
    remove_folder("a", "outer", mask)
    remove_folder("outer", "outer/small", mask)
    small = contents(tmp_path / "outer" / "small")
    remove_folder("a", "outer", mask)
    assert contents(tmp_path / "outer" / "small") == small


def test_a_target_that_is_a_link_is_written_through(mask, tmp_path):
    (tmp_path / "large_disk").mkdir()
    (tmp_path / "out").symlink_to("large_disk/out")
    remove_folder("a", "out", mask)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "large_disk" / "out" / "model.safetensors").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "large_disk", "out"]


def test_a_disk_that_is_too_small_is_known_before_a_shard_is_written(mask, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    for change in (remove_folder, compact_folder):
        with pytest.raises(OutputError, match="needs .* GB, but its disk has .* GB left"):
            change("a", "out", mask)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
