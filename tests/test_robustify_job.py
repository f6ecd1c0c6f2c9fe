"""Robustify as a job: a key of the unlearning recipe, a task of its own, and a command."""

from pathlib import Path

import pytest
from toy_languages import BLOCK, UNLEARN
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.errors import ConfigError
from hf_untangle.folders import MARKER
from hf_untangle.recipes.read import carry_out, check_recipe, read_recipe
from hf_untangle.recipes.unlearn import plan
from hf_untangle.records.unlearning import UnlearnRecord

RECIPES = Path(__file__).parents[1] / "recipes"
SMALL = {
    "strength": 0.2,
    "tokens": 256,
    "text_tokens": 512,
    "own_tokens": 0,
    "step_tokens": 128,
    "block_size": BLOCK,
    "batch_size": 4,
    "evaluation_tokens": 512,
}
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    """Work in the project."""
    monkeypatch.chdir(project)


def strengths_in(folder: str) -> list[float]:
    record = UnlearnRecord.model_validate_json((Path(folder) / MARKER).read_text())
    return [one.settings["strength"] for one in record.repairs]


def test_an_unlearning_recipe_may_end_with_a_distillation_and_a_saved_result_can_be_distilled_again():
    outcome = carry_out(check_recipe(UNLEARN | {"robustify": SMALL, "output": "robust"}), progress=False)
    assert strengths_in("robust") == [0.2] == [one["settings"]["strength"] for one in outcome.record["repairs"]]
    overrides = {f"settings.{key}": value for key, value in SMALL.items()} | {"settings.strength": 0.1, "folder": "robust"}
    overrides |= {"forget": "numbers.jsonl", "retain": "words.jsonl", "output": "again"}
    carry_out(read_recipe(RECIPES / "robustify" / "demo.yaml", overrides), progress=False)
    assert strengths_in("again") == [0.2, 0.1]


def test_a_number_is_a_strength_in_a_recipe():
    recipe = check_recipe(UNLEARN | {"robustify": 0.3, "output": "x"})
    assert recipe.afterwards.robustify.strength == 0.3
    with pytest.raises(ConfigError, match="`strength`: input should be less than or equal to 1"):
        carry_out(check_recipe(UNLEARN | {"robustify": 3, "output": "x"}), progress=False)


def test_the_plan_says_the_cost_beforehand():
    stages = {one.name: one for one in plan(check_recipe(UNLEARN | {"robustify": SMALL, "output": "x"})).stages}
    assert stages["robustify"].what == "strength 0.2, at most 256 tokens"
    assert stages["robustify"].forward > 0 and stages["robustify"].backward > 0


def test_the_command_has_an_option_for_the_strength():
    assert "--robustify" in CliRunner().invoke(app, ["unlearn", "--help"], env={"COLUMNS": "200"}).stdout
