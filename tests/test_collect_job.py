"""The job, the command and the recipes of collection, and what they write."""

import json
from pathlib import Path

import pytest
from toy_languages import BLOCK, WORDS
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.errors import ConfigError
from hf_untangle.recipes.read import carry_out, check_recipe, read_recipe
from hf_untangle.statistics.activation_statistics import ActivationStatistics

RECIPES = sorted((Path(__file__).parents[1] / "recipes" / "collect").glob("*.yaml"))


@pytest.fixture(scope="module")
def places(taught, tokenizer, tmp_path_factory) -> dict[str, str]:
    """The toy model as a checkpoint, and words as a file."""
    folder = tmp_path_factory.mktemp("models")
    taught.save_pretrained(folder / "toy")
    tokenizer.save_pretrained(folder / "toy")
    (folder / "words.jsonl").write_text("\n".join(json.dumps({"text": words}) for words in WORDS))
    return {"model": str(folder / "toy"), "dtype": "float32", "corpus": str(folder / "words.jsonl")}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_own_recipes_run_and_leave_statistics(places, tmp_path, path):
    output = tmp_path / "words.safetensors"
    recipe = read_recipe(path, places | {"output": str(output), "tokens": 1024, "block_size": BLOCK})
    outcome = carry_out(recipe, progress=False)
    (corpus,) = ActivationStatistics.load(output).corpora
    assert corpus == outcome.record | {"corpus": "words.jsonl", "source": "words.jsonl"}
    assert outcome.record["tokens"] == 1024


def test_every_limit_can_be_given_to_the_command(places, tmp_path, cache):
    output = tmp_path / "words.safetensors"
    limits = ["--tokens", 512, "--batch-size", "auto", "--max-seconds", 1000, "--checkpoint-every", 1]
    command = ["collect", places["model"], places["corpus"], "-o", output, *limits, "--json"]
    done = CliRunner().invoke(app, list(map(str, command)))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tokens"] == 512 == ActivationStatistics.load(output).tokens
    assert not list(cache.rglob("collections/*"))


def test_a_batch_size_that_is_no_number_is_bad_input(places, tmp_path):
    command = ["collect", places["model"], places["corpus"], "-o", str(tmp_path / "a"), "--batch-size", "many"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 3
    assert "must be a whole number of at least 1, or `auto`, got 'many'" in " ".join(done.output.replace("│", "").split())


@pytest.mark.parametrize("size", [0, -1, "many", 2.5])
def test_a_batch_size_of_a_recipe_is_a_number_from_1_or_auto(size):
    content = {"task": "collect", "model": "toy", "corpus": "a.txt", "output": "b", "batch_size": size}
    with pytest.raises(ConfigError, match="^`batch_size`: must be a whole number of at least 1, or `auto`, got .*"):
        check_recipe(content)
