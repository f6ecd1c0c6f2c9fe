"""Methods on the command line and in recipes: the list with costs, a run, and a plan."""

import json

import pytest
from toy_languages import UNLEARN
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.methods.cost import cost_of, method_rows
from hf_untangle.methods.registry import METHODS
from hf_untangle.recipes.read import check_recipe, plan_of
from hf_untangle.records.unlearning import UnlearnRecord

SETTINGS = {
    key: value for key, value in UNLEARN["settings"].items() if key not in ("steps", "ffn_fraction", "retain_budget")
} | {"steps": 4, "step_rows": 8, "learning_rate": 1e-3, "disruption_budget": 0.5, "controls": 0}


@pytest.fixture
def here(project, monkeypatch):
    """The folder with the toy model and its corpora."""
    monkeypatch.chdir(project)


def test_the_list_names_every_method_with_its_cost():
    result = CliRunner().invoke(app, ["unlearn", "--list-methods"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert [name for name in ("prune", *METHODS) if name not in result.output] == []


def test_costs_count_passes():
    costs = {name: cost_of(method) for name, method in METHODS.items()}
    assert costs["graddiff"].per_step == 6 and costs["npo"].once == 1 and costs["dpo"].per_step == 9
    assert costs["rmu"].per_step == pytest.approx(2), "passes end behind a third of the layers"
    assert costs["repselect"].per_step == 0 and costs["repselect"].once == 6
    assert [row[0] for row in method_rows()] == ["auto", "prune", *METHODS]


@pytest.mark.usefixtures("no_report", "here")
def test_a_method_runs_from_the_command_line(tmp_path):
    options = [f"--set={name}={json.dumps(value)}" for name, value in SETTINGS.items()]
    files = ["--forget", "numbers.jsonl", "--retain", "words.jsonl", "--set", "prompts=[]", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["unlearn", "toy", "--method", "npo", *files, *options, "--json"])
    assert result.exit_code == 0, result.output
    record = UnlearnRecord.model_validate_json((tmp_path / "out" / "untangle.json").read_text())
    assert record.methods == ("npo",) and record.training[0].changed["learning_rate"] == 1e-3
    assert record.test.after.selectivity(record.test.before) > 0


@pytest.mark.usefixtures("here")
def test_a_plan_has_a_stage_for_every_method():
    stages = plan_of(check_recipe(UNLEARN | {"method": ["prune", "npo"], "settings": SETTINGS, "output": "out"})).stages
    assert [stage.name for stage in stages] == ["load", "unlearn", "evaluate", "npo", "save"]
    assert stages[3].forward > 0 and stages[3].memory > stages[0].memory


@pytest.mark.usefixtures("here")
def test_an_unknown_method_is_bad_input():
    files = ["--forget", "numbers.jsonl", "--retain", "words.jsonl", "-o", "out"]
    result = CliRunner().invoke(app, ["unlearn", "toy", "--method", "nopo", *files])
    assert result.exit_code == 3
