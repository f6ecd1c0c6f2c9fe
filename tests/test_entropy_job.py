"""The entropy job, its recipes and commands, on tiny models and data."""

import json
from pathlib import Path

import pytest
import torch
from toy_languages import BLOCK, NUMBERS, WORDS
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.entropy.neuron_record import NeuronRecord
from hf_untangle.errors import ConfigError
from hf_untangle.folders import MARKER
from hf_untangle.papers.contrast.contrast_config import ContrastExperimentConfig
from hf_untangle.papers.contrast.contrast_record import Cell, ContrastRecord
from hf_untangle.papers.contrast.modeling import ContrastModel
from hf_untangle.recipes import entropy as job
from hf_untangle.recipes.read import carry_out, check_recipe, read_recipe
from hf_untangle.reporting.entropy_plots import entropy_histograms, entropy_over_time, masking_costs

RECIPES = Path(__file__).parents[1] / "recipes"
FILES = {"digits": "papers/contrast", "language": "papers/contrast", "smollm2": "entropy"}
"""The folder of each recipe."""
TINY = {
    "settings.model": {"filters": [4], "embedding_size": 6, "hidden_size": 6, "num_hidden_layers": 1, "byte_size": 4},
    "settings.steps": 5,
    "settings.seeds": 2,
    "settings.batch_size": 4,
    "settings.problems": 32,
    "settings.untrained": 2.0,
}
SMALL = {"shares": [0.25], "seeds": 1, "tokens": 64, "evaluation_tokens": 64, "block_size": BLOCK, "batch_size": 4}


@pytest.fixture(scope="module")
def project(tiny_model, tokenizer, tmp_path_factory) -> Path:
    """A folder with a checkpoint `toy` and the corpora `numbers.jsonl` and `words.jsonl`."""
    folder = tmp_path_factory.mktemp("project")
    tiny_model("llama").save_pretrained(folder / "toy")
    tokenizer.save_pretrained(folder / "toy")
    corpora = {"numbers": [f"{one} {one}" for one in NUMBERS], "words": [f"{one} {one}" for one in WORDS]}
    for name, texts in corpora.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest.fixture
def command(project, monkeypatch):
    """Run a command inside the project."""
    monkeypatch.chdir(project)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def overridden(name: str, folder: Path, project: Path) -> dict:
    texts = {"corpus": {"source": str(project / "words.jsonl")}, "shifts": {"code": str(project / "numbers.jsonl")}}
    of_neurons = {f"settings.{key}": value for key, value in SMALL.items()} | {
        "model": str(project / "toy"),
        "dtype": "float32",
    }
    changes = {"digits": TINY, "language": TINY | texts, "smollm2": of_neurons | texts}
    return changes[name] | {"output": str(folder / name)}


@pytest.mark.parametrize("name", FILES)
def test_our_recipes_run_and_save_everything_that_they_measure(name, tmp_path, project):
    recipe = read_recipe(RECIPES / FILES[name] / f"{name}.yaml", overridden(name, tmp_path, project))
    outcome = carry_out(recipe, progress=False)
    folder = tmp_path / name
    saved = json.loads((folder / MARKER).read_text())
    assert saved == outcome.record
    kind = NeuronRecord if name == "smollm2" else ContrastRecord
    assert kind.model_validate(saved).cells
    assert (folder / "masking.svg").read_text().startswith("<?xml")
    if name != "smollm2":
        assert ContrastModel.from_pretrained(folder / "seed-1").config.bits == 32


def test_every_recipe_is_executed_above_and_says_how_to_run_it():
    paths = [path for folder in set(FILES.values()) for path in (RECIPES / folder).glob("*.yaml")]
    assert {path.stem for path in paths} == FILES.keys()
    for path in paths:
        assert f"hf-untangle run {path.relative_to(RECIPES.parent)}" in path.read_text()


@pytest.mark.parametrize("which", [{}, {"data": "digits", "model": "toy"}])
def test_a_recipe_names_data_or_a_model(which, tmp_path):
    recipe = check_recipe({"task": "entropy", "output": str(tmp_path / "out")} | which)
    with pytest.raises(ConfigError, match="needs either `data`, .* or `model`, .* Name one"):
        carry_out(recipe, progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bist": 3}, "There is no setting `bist` .did you mean `bits`"),
        ({"ablation": "median"}, "`ablation`: input should be 'mean', 'half' or 'zero'"),
        ({"shares": [0.001]}, "0.001 of 32 bits is 0"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_trained(settings, message, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_untangle.papers.contrast.experiment.train_contrast", pytest.fail)
    recipe = check_recipe({"task": "entropy", "data": "digits", "settings": settings, "output": str(tmp_path / "out")})
    with pytest.raises(ConfigError, match=message):
        carry_out(recipe, progress=False)


def test_an_unknown_preset_is_an_error(tmp_path):
    recipe = check_recipe({"task": "entropy", "data": "digits", "preset": "papr", "output": str(tmp_path / "out")})
    with pytest.raises(ConfigError, match="one of default, paper, got 'papr' .did you mean `paper`"):
        carry_out(recipe, progress=False)


def test_the_command_prints_the_entropy_of_every_group(command, tmp_path):
    drawn = tmp_path / "entropy.svg"
    result = command("entropy", "toy", "--corpus", "words.jsonl", "--tokens", 256, "--figure", drawn, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["neurons"] for row in rows] == [32, 48, 32, 48]
    assert all(0 <= row["low"] <= row["median"] <= row["high"] <= 1 for row in rows)
    assert drawn.read_text().startswith("<?xml")
    table = command("entropy", "toy", "--corpus", "words.jsonl", "--tokens", 256, "--threshold", "running mean")
    assert "always off" in table.stdout
    assert command("entropy", "toy", "--corpus", "words.jsonl", "--threshold", "mode").exit_code == 3


def test_the_command_masks_neurons_and_prints_what_it_costs(command, tmp_path):
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    words = ["entropy-masks", "--model", "toy", "--corpus", "words.jsonl", "--output", tmp_path / "out", *settings]
    result = command(*words)
    assert result.exit_code == 0, result.output
    assert "bottom" in result.stdout and "masking.svg" in result.stdout


def a_record(**changes) -> ContrastRecord:
    cells = [
        Cell(seed=seed, set=name, share=share, masked=3, order=order, before=0.9, after=0.9 - share * seed)
        for seed in (1, 2)
        for name in ("near", "far")
        for share in (0.1, 0.3)
        for order in ("bottom", "top", "random")
    ]
    settings = ContrastExperimentConfig(shares=(0.1, 0.3, "low"))
    fields = {"settings": settings, "source": "made", "sets": ("near", "far"), "models": (), "cells": tuple(cells)}
    return ContrastRecord(**fields | changes)


def test_masking_is_drawn_with_its_spread_for_every_set():
    figure = masking_costs(a_record())
    near, far = figure.axes
    assert near.get_title(loc="left") == "near (0.90)" and far.get_title(loc="left") == "far (0.90)"
    lines = {line.get_label(): line for line in near.get_lines()}
    assert {"bottom", "top", "random"} <= lines.keys()
    assert lines["top"].get_xdata().tolist() == [0.1, 0.3]
    assert lines["top"].get_ydata().tolist() == pytest.approx([-0.15, -0.45])
    assert len(near.collections) == 3


def test_histograms_are_shares_of_each_group():
    figure = entropy_histograms({"layers.0.mlp.down_proj": torch.tensor([0.0, 0.0, 1.0, 0.5])})
    shades = figure.axes[0].get_images()[0].get_array()
    assert shades.shape == (1, 40)
    assert (shades[0, 0], shades[0, -1], shades.sum()) == (0.5, 0.25, 1)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0 down_proj"]


def test_quantiles_over_time_have_a_panel_for_each_kind_of_data():
    values = torch.rand(3, 5).sort().values
    figure = entropy_over_time({"train": [1.0, 2.0, 3.0], "eval": [2.0]}, {"train": values, "eval": values[:1]})
    train, evaluation = figure.axes
    assert train.get_lines()[0].get_ydata().tolist() == pytest.approx(values[:, 2].tolist())
    assert evaluation.get_lines()[0].get_xdata().tolist() == [2.0]


def test_data_that_a_recipe_can_name_are_those_that_can_be_read():
    assert set(job.DATA) == set(job.Recipe.model_fields["data"].annotation.__args__[0].__args__)
