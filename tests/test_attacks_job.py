"""Attack as a job: a task of its own, a command, and a stage of the unlearning recipe."""

import json
from pathlib import Path

import pytest
from toy_languages import BLOCK, UNLEARN
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.errors import ConfigError
from hf_untangle.folders import MARKER
from hf_untangle.recipes.read import carry_out, check_recipe, read_recipe
from hf_untangle.records.unlearning import UnlearnRecord

RECIPES = Path(__file__).parents[1] / "recipes"
SMALL = {
    "seeds": 1,
    "samples": 4,
    "steps": 1,
    "step_tokens": 64,
    "points": 1,
    "shots": [1],
    "block_size": BLOCK,
    "batch_size": 8,
    "evaluation_tokens": 128,
}
CORPORA = {"forget": "numbers.jsonl", "retain": "words.jsonl"}
ATTACK = CORPORA | {"task": "attack", "folder": "result", "original": "toy"}
pytestmark = pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning")


@pytest.fixture(scope="module")
def project(project) -> Path:
    """The project, with a `result` in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setattr("hf_untangle.results.unlearned.write_report", lambda *_, **__: None)
        carry_out(check_recipe(UNLEARN | {"output": "result"}), progress=False)
    return project


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    """Work in the project, and save without the figures, which take seconds to draw."""
    monkeypatch.chdir(project)
    monkeypatch.setattr("hf_untangle.results.unlearned.write_report", lambda *_, **__: None)


def attacks_in(folder: str) -> list[list[str]]:
    record = UnlearnRecord.model_validate_json((Path(folder) / MARKER).read_text())
    return [[outcome.attack for outcome in one.outcomes] for one in record.attacks]


def test_the_outcome_goes_into_the_record_and_the_weights_stay_as_they_are(project):
    weights = (project / "result" / "model.safetensors").read_bytes()
    settings = SMALL | {"attacks": ["logit-lens"]}
    outcome = carry_out(check_recipe(ATTACK | {"settings": settings}), progress=False)
    assert attacks_in("result")[-1] == ["logit-lens"]
    assert outcome.record["outcomes"][0]["error"] is None
    assert (project / "result" / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_with_an_output_the_result_is_saved_anew(project):
    before = (project / "result" / MARKER).read_text()
    carry_out(check_recipe(ATTACK | {"settings": SMALL | {"attacks": ["few-shot"]}, "output": "attacked"}), progress=False)
    assert (project / "result" / MARKER).read_text() == before
    assert attacks_in("attacked")[-1] == ["few-shot"]
    assert AutoModelForCausalLM.from_pretrained("attacked").num_parameters() > 0


def test_the_command_prints_the_readings():
    options = [word for key, value in (CORPORA | {"original": "toy"}).items() for word in (f"--{key}", value)]
    overrides = [word for key, value in SMALL.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = CliRunner().invoke(app, ["attack", "result", "--quick", "--attacks", "adapter", *options, *overrides, "--json"])
    assert done.exit_code == 0, done.stderr
    (outcome,) = json.loads(done.stdout)["outcomes"]
    assert [reading["condition"] for reading in outcome["readings"]] == ["adapter on", "adapter off", "checkpoint read anew"]


def test_a_wrong_attack_is_named_before_anything_is_loaded():
    done = CliRunner().invoke(app, ["attack", "nowhere", "--attacks", "relern"])
    assert done.exit_code == 3
    assert "`attacks.0`: input should be 'quantize', 'relearn'" in " ".join(done.stderr.split())
    with pytest.raises(ConfigError, match="There is no setting `sedes` .did you mean `seeds`"):
        carry_out(check_recipe(UNLEARN | {"attack": {"settings": {"sedes": 1}}, "output": "x"}))


def test_the_recipe_that_attacks_the_demo_runs():
    overrides = ATTACK | {f"settings.{key}": value for key, value in SMALL.items()}
    recipe = read_recipe(RECIPES / "attack" / "demo-quick.yaml", overrides | {"settings.attacks": ["quantize"]})
    assert recipe.model_dump()["quick"]
    carry_out(recipe, progress=False)
    assert attacks_in("result")[-1] == ["quantize"]


@pytest.mark.slow
def test_an_unlearning_recipe_may_end_with_attacks():
    stage = {"quick": True, "settings": SMALL | {"attacks": ["relearn"]}}
    outcome = carry_out(check_recipe(UNLEARN | {"attack": stage, "output": "both"}), progress=False)
    assert attacks_in("both") == [["relearn"]]
    assert outcome.record["attacks"][0]["outcomes"][0]["readings"]
