"""Settings are said the same in four places: the page on `unlearn`, `help`, `--help`, and the types of keywords."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

import hf_untangle as untangle
from hf_untangle.cli.main import app
from hf_untangle.config import Config
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.configs.robustify import RobustifyConfig
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.evaluation.score_cache import EvaluationConfig
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.nets.search_config import NetsConfig, NeuronNetsConfig
from hf_untangle.recipes.schema import recipe_schema

ROOT = Path(__file__).parents[1]
CALLS = {
    "untangle.attack": (untangle.attack, [AttackConfig]),
    "untangle.evaluate": (untangle.evaluate, [EvaluationConfig]),
    "untangle.plan": (untangle.plan, [PruneConfig]),
    "untangle.prune": (untangle.prune, [PruneConfig]),
    "untangle.repair": (untangle.repair, [RepairConfig]),
    "untangle.unlearn": (untangle.unlearn, [UnlearnConfig, MethodConfig]),
    "result.attack": (untangle.UnlearnResult.attack, [AttackConfig]),
    "result.evaluate": (untangle.UnlearnResult.evaluate, [EvaluationConfig]),
    "result.repair": (untangle.UnlearnResult.repair, [RepairConfig]),
    "repairs.robustify": (untangle.repairs.robustify, [RobustifyConfig]),
    "result.robustify": (untangle.UnlearnResult.robustify, [RobustifyConfig]),
    "nets.search": (untangle.nets.search, [NetsConfig]),
    "nets.search_neurons": (untangle.nets.search_neurons, [NeuronNetsConfig]),
}


def words(text: str) -> str:
    """The words of a text, however its lines are broken."""
    return " ".join(text.split())


@pytest.mark.parametrize("name", CALLS)
def test_the_keywords_that_a_type_checker_knows_are_the_settings_of_the_call(name):
    call, configs = CALLS[name]
    hint = inspect.signature(call).parameters["settings"].annotation
    assert set(get_type_hints(hint.__args__[0])) == {field for config in configs for field in config.model_fields}


def test_page_and_keywords_are_written_as_the_settings_are(forked):
    done = forked(ROOT, "scripts/write_settings.py", "--check")
    assert (done.returncode, done.stdout) == (0, "Settings are written down as they are.\n")


@pytest.mark.parametrize("config", [UnlearnConfig, MethodConfig, PruneConfig, RepairConfig, RobustifyConfig, AttackConfig])
def test_help_says_what_every_setting_is_and_its_default(config):
    told = words(inspect.getdoc(config) or "")
    for name, field in config.model_fields.items():
        assert f"{name}: {words(str(field.description))} Default: {field.default!r}." in told


def test_the_page_and_help_on_the_command_line_say_the_same_of_every_setting(monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    shown = words(CliRunner().invoke(app, ["unlearn", "--help"]).stdout)
    page = (ROOT / "docs/how-to/unlearn.md").read_text(encoding="utf-8").replace("\\|", "|")
    for name, field in UnlearnConfig.model_fields.items():
        assert f"| `{name}` |" in page and f"| {field.description} |" in page
        assert f"--{name.replace('_', '-')}" in shown and words(str(field.description)) in shown


def test_descriptions_of_fields_do_not_stand_in_the_schema_twice():
    assert "Attributes:" not in str(recipe_schema())
    assert words(UnlearnConfig.model_json_schema()["description"]).startswith("The settings of selective pruning.")


def test_every_setting_of_every_room_is_described():
    rooms = ("configs.unlearn", "methods.settings", "density.sweep_config", "nets.search_config", "evaluation.score_cache")
    for room in rooms:
        for config in vars(import_module(f"hf_untangle.{room}")).values():
            if isinstance(config, type) and issubclass(config, BaseModel) and config is not Config:
                assert [name for name, field in config.model_fields.items() if not field.description] == []
