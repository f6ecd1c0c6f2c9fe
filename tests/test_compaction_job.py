"""The job, the recipes and the command: a folder in, a smaller folder out."""

import json
from pathlib import Path

import pytest
import torch
from test_compaction import some_removed
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.cli.main import app
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.recipes.read import carry_out, read_recipe

RECIPES = sorted((Path(__file__).parents[1] / "recipes" / "compact").glob("*.yaml"))


@pytest.fixture
def source(tiny_model, tmp_path):
    """A checkpoint, and a mask beside it."""
    model = tiny_model("llama", intermediate_size=96)
    model.save_pretrained(tmp_path / "source")
    mask = some_removed(neuron_groups(model))
    mask.save(tmp_path / "mask.safetensors")
    return tmp_path / "source", tmp_path / "mask.safetensors"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_makes_a_smaller_checkpoint_of_one_with_removed_neurons(recipe, tiny_model, tmp_path):
    model = tiny_model("llama", intermediate_size=96)
    groups = neuron_groups(model)
    remove_(model, some_removed(groups), groups).save_pretrained(tmp_path / "removed")
    overrides = {"source": str(tmp_path / "removed"), "output": str(tmp_path / "out"), "round_to": 8}
    outcome = carry_out(read_recipe(recipe, overrides))
    assert outcome.record["parameters_after"] < outcome.record["parameters_before"]
    assert outcome.record["needs_package"] == (recipe.stem == "ragged")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.num_parameters() == outcome.record["parameters_after"]


def test_the_command_takes_a_mask_and_prints_json(source, tmp_path):
    folder, mask = source
    arguments = ["compact", str(folder), str(tmp_path / "out"), "--mask", str(mask), "--layout", "ragged", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    assert record["layout"] == "ragged" and record["parameters_after"] < record["parameters_before"]


def test_the_command_says_how_much_went_and_how_to_load(source, tmp_path):
    folder, mask = source
    done = CliRunner().invoke(app, ["compact", str(folder), str(tmp_path / "out"), "--mask", str(mask)])
    assert done.exit_code == 0
    assert "parameters became" in done.stdout and "from_pretrained loads it anywhere" in done.stdout


def compact(*words: object) -> tuple[int, str]:
    """Run the command, and give its exit code and its error on one line."""
    done = CliRunner().invoke(app, ["compact", *map(str, words)])
    return done.exit_code, " ".join(done.stderr.split())


def test_a_compaction_that_would_change_nothing_is_an_error_that_says_why(source, tiny_model, tmp_path):
    folder, mask = source
    code, error = compact(folder, tmp_path / "out")
    assert code == 3 and "it has no removed neurons. Prune it or unlearn first, or pass a mask. Nothing was written" in error
    code, error = compact(folder, tmp_path / "out", "--mask", mask, "--round-to", 4096)
    assert code == 3 and "every layer is as wide as the widest, from which too little was removed. Try the layout" in error
    assert not (tmp_path / "out").exists()


def test_removed_neurons_that_cannot_be_taken_out_are_named(tiny_model, tmp_path):
    model = tiny_model("gpt2")
    model.save_pretrained(tmp_path / "source")
    groups = neuron_groups(model)
    gone = {group.name: (group.head_size or 0) if group.kind == "attention" else 0 for group in groups}
    kept = {group.name: torch.arange(group.size) >= gone[group.name] for group in groups}
    NeuronMask.keep_all(groups, str(tmp_path / "source")).with_kept(kept).save(tmp_path / "mask.safetensors")
    code, error = compact(tmp_path / "source", tmp_path / "out", "--mask", tmp_path / "mask.safetensors", "--layout", "ragged")
    assert code == 3 and ("Nothing can be taken out" in error or "keep their place" in error)
    assert not (tmp_path / "out").exists()


def test_a_missing_checkpoint_is_one_sentence_and_exit_code_3(tmp_path):
    done = CliRunner().invoke(app, ["compact", str(tmp_path / "nowhere"), str(tmp_path / "out")])
    assert done.exit_code == 3
    assert "must be a folder with a checkpoint" in done.stderr
    assert not (tmp_path / "out").exists()
