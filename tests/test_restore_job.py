"""The job and the command `restore`: a saved result in, the model before the run out, bit for bit."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from test_restore import same
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from hf_untangle.cli.main import app
from hf_untangle.folders import MARKER


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def restore(*words: object) -> Result:
    return CliRunner().invoke(app, ["restore", *map(str, words)])


@pytest.fixture
def saved(unlearned, no_report, tmp_path) -> Path:
    """A result whose removed weights were kept, saved."""
    return replace(unlearned, model=deepcopy(unlearned.model)).save_pretrained(tmp_path / "result")


def test_a_result_is_restored_into_a_new_folder_and_stays_itself(saved, taught, tmp_path):
    before = contents(saved)
    done = restore(saved, "--output", tmp_path / "original", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["output"] == str(tmp_path / "original")
    assert same(AutoModelForCausalLM.from_pretrained(tmp_path / "original"), taught)
    assert AutoTokenizer.from_pretrained(tmp_path / "original")("12")["input_ids"]
    assert contents(saved) == before
    assert not (tmp_path / "original" / "removed.safetensors").exists()


def test_a_result_is_restored_in_place(saved, taught):
    done = restore(saved, "--in-place")
    assert done.exit_code == 0, done.stderr
    assert "is the model before the run" in " ".join(done.stdout.split())
    assert same(AutoModelForCausalLM.from_pretrained(saved), taught)
    assert not {"mask.safetensors", "removed.safetensors"} & set(contents(saved))
    assert json.loads((saved / MARKER).read_text())["restored"] == saved.name
    again = restore(saved, "--in-place")
    assert again.exit_code == 3 and "must have been kept to be restored" in " ".join(again.stderr.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name either an `output` or `in_place`"),
        (("--output", "new", "--in-place"), "name either an `output` or `in_place`"),
    ],
)
def test_where_to_write_must_be_said_once(saved, words, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = contents(saved)
    done = restore(saved, *words)
    assert done.exit_code == 3 and message in " ".join(done.stderr.split())
    assert contents(saved) == before


def test_a_checkpoint_that_was_trained_since_is_refused_and_left_alone(saved, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(saved)
    model.lm_head.weight.data[3, 5] += 1e-3
    model.save_pretrained(saved)
    before = contents(saved)
    for words in (("--output", tmp_path / "new"), ("--in-place",)):
        done = restore(saved, *words)
        assert done.exit_code == 3 and "some of its weights have changed since" in " ".join(done.stderr.split())
    assert contents(saved) == before
    assert not (tmp_path / "new").exists()


def test_what_is_no_folder_is_refused_at_once(tmp_path):
    done = restore(tmp_path / "none", "--in-place")
    assert done.exit_code == 3 and "must be a folder that a result was saved in" in " ".join(done.stderr.split())


def test_a_folder_of_another_is_never_replaced(saved, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    done = restore(saved, "--output", tmp_path / "thesis")
    assert done.exit_code == 3
    assert contents(tmp_path / "thesis") == {"chapter.txt": b"years of work"}
