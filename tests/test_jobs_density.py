"""Density as a job: from a recipe, from the command line, with its figures and files."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from toy_languages import BLOCK, WORDS
from typer.testing import CliRunner

from hf_untangle import models
from hf_untangle.cli.main import app
from hf_untangle.density import Measure, measure, sweep
from hf_untangle.errors import ConfigError
from hf_untangle.papers import across_widths
from hf_untangle.papers.scaling.families import Family, Member
from hf_untangle.papers.scaling.plots import density_across_widths
from hf_untangle.recipes.read import carry_out, check_recipe, read_recipe
from hf_untangle.reporting.density import density_curves

RECIPES = sorted(
    file for folder in ("density", "papers/scaling") for file in (Path(__file__).parents[1] / "recipes" / folder).glob("*.yaml")
)
COARSE = {"settings.grid": [0.5, 1.0], "settings.refine": 0.0}
TINY_CLASSIFIERS = {"widths": [4, 8], "seeds": [0], "images": "digits", "training": {"epochs": 1}}
TINY_LANGUAGE = {"widths": [8, 16], "seeds": [0], "training": {"steps": 1, "block_size": 32, "tokens": 1000}}


@pytest.fixture
def words(tmp_path):
    """A file of text that the toy model knows."""
    file = tmp_path / "words.txt"
    file.write_text("\n\n".join(WORDS))
    folder = tmp_path / "words"
    folder.mkdir()
    for number, text in enumerate(WORDS):
        (folder / f"{number}.txt").write_text(text)
    return str(folder)


@pytest.fixture
def toy(monkeypatch, toy_model, tokenizer):
    """Every model by name is the toy model."""
    monkeypatch.setattr(measure, "BLOCK_SIZE", BLOCK)
    monkeypatch.setattr(models, "load", lambda *_, **__: (toy_model, tokenizer))
    return toy_model


def shown(outcome):
    buffer = io.StringIO()
    outcome.show(Console(file=buffer, width=200))
    return buffer.getvalue()


def drawn(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    assert buffer.getvalue().startswith(b"\x89PNG")
    return figure


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs_on_something_small(recipe, tmp_path, toy, words):
    family = read_recipe(recipe).family
    tiny = {} if family is None else {"widths": ["s", "l"], "seeds": [0]} if "{" in family else TINY_CLASSIFIERS
    tiny = TINY_LANGUAGE if family in ("gpt2", "llama") else tiny
    overrides = COARSE | tiny | {"corpus": words, "output": str(tmp_path / "out")}
    outcome = carry_out(read_recipe(recipe, overrides), progress=False)
    assert (tmp_path / "out" / "density.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "untangle.json").read_text())["recipe"]["task"] == "density"
    assert "Saved in" in shown(outcome)


def test_there_are_recipes_for_a_model_and_for_families():
    families = {read_recipe(recipe).family for recipe in RECIPES}
    assert None in families and len(families) >= 3


def test_a_model_is_swept_beside_random_order(tmp_path, toy, words, untouched):
    content = {"task": "density", "model": "toy", "corpus": words, "output": str(tmp_path / "out")}
    with untouched(toy):
        outcome = carry_out(check_recipe(content), progress=False)
    assert outcome.record["magnitude"]["first"] > outcome.record["random"]["first"] >= 0
    assert "prunable share" in shown(outcome) and "random" in shown(outcome)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "a density job needs either `model`, or `family` with `widths`"),
        ({"model": "smollm2", "family": "mlp"}, "needs either `model`, or `family`"),
        ({"family": "mlp"}, "needs either `model`, or `family` with `widths`"),
        ({"model": "smollm2", "width": 3}, r"There is no setting `width` \(did you mean `widths`\?\)"),
    ],
)
def test_recipes_that_say_too_little_or_too_much_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_recipe({"task": "density", "output": "out"} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "perceptron", "widths": [4]}, "A family must be one of mlp, convolutional"),
        ({"family": "mlp", "widths": [4], "training": {"steps": 3}}, "`training` may have the keys epochs, learning_rate"),
        (
            {"family": "mlp", "widths": [4], "settings": {"unitt": "weights"}},
            "There is no setting `unitt` .did you mean `unit`",
        ),
    ],
)
def test_settings_are_refused_before_anything_is_written(tmp_path, changes, message):
    output = tmp_path / "out"
    with pytest.raises(ConfigError, match=message):
        carry_out(check_recipe({"task": "density", "output": str(output)} | changes), progress=False)
    assert not output.exists()


def test_the_command_line_sweeps_a_family(tmp_path):
    pytest.importorskip("sklearn")
    output = str(tmp_path / "out")
    options = ["--widths", "2,4", "--seeds", "0", "--set", "grid=[0.5, 1.0]", "--set", "refine=0.0", "-o", output, "--json"]
    result = CliRunner().invoke(app, ["density", "--family", "mlp", *options])
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert [width["width"] for width in record["widths"]] == [2, 4]


def test_the_command_line_says_what_is_wrong(tmp_path):
    result = CliRunner().invoke(app, ["density", "--family", "perceptron", "--widths", "2", "-o", str(tmp_path / "out")])
    assert result.exit_code == 3
    assert "A family must be one of" in result.stderr


def identity(width, seed, tolerance):
    from torch import nn

    network = nn.Linear(int(width), int(width), bias=False)
    nn.init.eye_(network.weight)
    return Member(network, Measure(lambda module: module.weight.trace().item() / int(width), lambda _: None, examples=None))


def test_the_curve_is_drawn_with_its_crossing():
    member = identity(4, 0, "points")
    result = sweep(member.model, member.measure, progress=False)
    (axes,) = drawn(density_curves({"magnitude": result})).axes
    line = next(each for each in axes.lines if len(each.get_xdata()) == len(result.curve))
    assert list(line.get_ydata()) == [point.value for point in result.curve]
    assert axes.get_legend().get_texts()[0].get_text() == f"magnitude: {result.first:.0%}"


def test_a_curve_of_losses_is_cut_where_it_explodes():
    member = identity(4, 0, "loss")
    evaluate = Measure(lambda module: 1e6 * (1.00001 - member.measure.evaluate(module)), lambda _: None, None)
    result = sweep(member.model, evaluate, tolerance="loss", progress=False)
    (axes,) = drawn(density_curves({"magnitude": result})).axes
    assert axes.get_ylim()[1] < 100


def test_families_are_drawn_with_their_slopes():
    exact = {"grid": (0.5, 0.75, 0.875, 1.0), "refine": 0.0, "progress": False}
    results = [across_widths(Family(name, identity), (4, 8), (0, 1), **exact) for name in ("a", "b")]
    left, right = drawn(density_across_widths(results)).axes
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert any(label.startswith("a: slope 0.5") for label in labels)
    assert left.get_ylim() == (0, 1)
