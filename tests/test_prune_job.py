"""The job, the command and the recipes of compression, and what they write."""

import json
import re
from pathlib import Path

import pytest
from toy_languages import SMALL, WORDS
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from hf_untangle import models
from hf_untangle.cli.main import app
from hf_untangle.recipes.read import carry_out, read_recipe
from hf_untangle.records.compression import PruneRecord
from hf_untangle.records.shareable import shareable

RECIPES = sorted((Path(__file__).parents[1] / "recipes" / "prune").glob("*.yaml"))


@pytest.fixture(scope="module")
def folder(taught, tokenizer, tmp_path_factory) -> Path:
    """The toy model as a checkpoint."""
    path = tmp_path_factory.mktemp("models") / "toy"
    taught.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Words as a file."""
    file = tmp_path_factory.mktemp("texts") / "words.jsonl"
    file.write_text("\n".join(json.dumps({"text": words}) for words in WORDS))
    return file


@pytest.fixture
def recipe(folder, text, tmp_path):
    """Our recipe, with the toy model and small settings."""

    def read(path: Path = RECIPES[0], **overrides):
        small = {f"settings.{name}": value for name, value in SMALL.items()}
        places = {"model": str(folder), "dtype": "float32", "data": str(text), "output": str(tmp_path / "out")}
        return read_recipe(path, small | places | overrides)

    return read


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_own_recipes_run_and_leave_a_checkpoint_with_a_report_and_a_card(recipe, path, tmp_path):
    outcome = carry_out(recipe(path), progress=False)
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    page, card = ((tmp_path / "out" / name).read_text() for name in ("report.html", "README.md"))
    assert (
        re.search(r"toy, \d+\.\d% of it pruned", page)
        and "smallest weights" in page
        and "<svg" in page
        and "http" not in page.replace("http://www.w3.org", "")
    )
    assert "library_name: transformers" in card and "| original |" in card and "| tokens per second |" in card
    assert json.loads((tmp_path / "out" / "untangle.json").read_text()) == shareable(
        PruneRecord.model_validate(outcome.record)
    ).model_dump(mode="json")
    assert (tmp_path / "out" / "plots" / "removed_by_layer.png").stat().st_size > 1000


def test_a_dry_run_says_what_would_go_and_writes_nothing(recipe, tmp_path):
    outcome = carry_out(recipe(dry_run=True), progress=False)
    assert outcome.record["removed"]["model.layers.0.mlp.down_proj"] == 64
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_plan(folder, text, tmp_path):
    small = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    command = ["prune", str(folder), "--data", str(text), "-o", str(tmp_path / "out"), "--ratio", "0.5", "--dry-run"]
    done = CliRunner().invoke(app, [*command, *small])
    assert done.exit_code == 0, done.output
    assert "removes 256 of 512 ffn neurons (50.0%)" in done.output


def test_the_command_prints_the_table_and_where_everything_is(folder, text, tmp_path):
    small = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    command = ["prune", str(folder), "--data", str(text), "-o", str(tmp_path / "out"), "--importance", "rms"]
    done = CliRunner().invoke(app, [*command, *small])
    assert done.exit_code == 0, done.output
    output = " ".join(done.output.split())
    for part in ("rms", "smallest weights", "without 1", "its perplexity goes from", "untangle.json"):
        assert part in output


def test_a_setting_that_does_not_exist_ends_before_the_model_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    done = CliRunner().invoke(app, ["prune", "smollm2", "-o", str(tmp_path / "out"), "--importance", "wnada"])
    assert done.exit_code == 3
    assert "did you mean `wanda`" in " ".join(done.output.split())
