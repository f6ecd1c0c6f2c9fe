"""Repair as a job: a key of the unlearning recipe, a task of its own, and a command."""

import json
from pathlib import Path

import pytest
import yaml
from toy_languages import BLOCK, UNLEARN
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.cli.main import app
from hf_untangle.errors import ConfigError, CorpusError
from hf_untangle.folders import MARKER
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.recipes.read import carry_out, check_recipe, read_recipe
from hf_untangle.records.shareable import shareable
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.results.unlearned import UnlearnResult

RECIPES = Path(__file__).parents[1] / "recipes"
REPAIR = {"steps": 2, "step_tokens": 128, "block_size": BLOCK, "batch_size": 4}
AGAIN = {"task": "repair", "forget": "numbers.jsonl", "retain": "words.jsonl", "settings": REPAIR, "output": "repaired"}
pytestmark = [
    pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning"),
    pytest.mark.usefixtures("no_report"),
]


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    """Work in the project."""
    monkeypatch.chdir(project)


@pytest.fixture
def unlearned(project):
    """A folder with a result that was not repaired."""
    if not (project / "result").exists():
        carry_out(check_recipe(UNLEARN | {"output": "result"}), progress=False)
    return "result"


def record_in(folder: str) -> UnlearnRecord:
    return UnlearnRecord.model_validate_json((Path(folder) / MARKER).read_text())


def zero_where_removed(folder: str) -> bool:
    model = AutoModelForCausalLM.from_pretrained(folder)
    return all_zero(held_parameters(model, NeuronMask.load(Path(folder) / "mask.safetensors"), neuron_groups(model)))


def test_an_unlearning_recipe_may_end_with_a_repair():
    outcome = carry_out(check_recipe(UNLEARN | {"repair": REPAIR | {"method": "full"}, "output": "both"}), progress=False)
    (repair,) = record_in("both").repairs
    assert (repair.settings["method"], repair.tokens) == ("full", 256)
    assert outcome.record["repairs"][0]["settings"] == repair.settings
    assert zero_where_removed("both")


def test_the_key_repair_is_checked_before_anything_long_begins():
    with pytest.raises(ConfigError, match="There is no setting `repair.stepz` .did you mean `steps`"):
        check_recipe(UNLEARN | {"repair": {"stepz": 3}, "output": "both"})
    with pytest.raises(ConfigError, match="`repair.steps`: input should be greater than or equal to 1"):
        check_recipe(UNLEARN | {"repair": {"steps": 0}, "output": "both"})


def test_a_saved_result_is_read_whole(unlearned):
    result = UnlearnResult.from_pretrained(unlearned, corpora={"forget": "numbers.jsonl", "retain": "words.jsonl"})
    assert shareable(result.record) == record_in(unlearned)
    assert result.mask_path[result.history.chosen - 1] == result.mask
    assert result.held_out.forget.record() == result.record.corpora["forget_test"]


def test_a_saved_result_is_repaired_and_saved_anew(unlearned):
    carry_out(check_recipe(AGAIN | {"folder": unlearned}), progress=False)
    before, after = record_in(unlearned), record_in("repaired")
    assert (len(before.repairs), len(after.repairs)) == (0, 1)
    assert after.repairs[0].before.retain.top1 == pytest.approx(before.test.after.retain.top1)
    assert zero_where_removed("repaired")


def test_distillation_learns_from_the_model_that_is_named(unlearned):
    distilling = {"settings": REPAIR | {"distill": 0.5}, "original": "toy"}
    carry_out(check_recipe(AGAIN | {"folder": unlearned} | distilling), progress=False)
    assert record_in("repaired").repairs[0].original == "toy"


def test_a_file_must_be_named_again_and_be_the_same(unlearned, tmp_path):
    with pytest.raises(CorpusError, match="forget corpus of the run was `numbers.jsonl` .* Pass it again: corpora=.'forget'"):
        UnlearnResult.from_pretrained(unlearned)
    (tmp_path / "other.jsonl").write_text((Path("words.jsonl")).read_text())
    with pytest.raises(CorpusError, match="forget corpus must be the one that the run was measured on"):
        UnlearnResult.from_pretrained(unlearned, corpora={"forget": tmp_path / "other.jsonl", "retain": "words.jsonl"})


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be a folder or a repository that a result was saved in"):
        UnlearnResult.from_pretrained(tmp_path)


def test_the_command_prints_the_record(unlearned):
    overrides = [word for key, value in REPAIR.items() for word in ("--set", f"{key}={value}")]
    options = ["--forget", "numbers.jsonl", "--retain", "words.jsonl", "--output", "by-command", "--json"]
    done = CliRunner().invoke(app, ["repair", unlearned, *options, *overrides])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["repairs"] == record_in("by-command").model_dump(mode="json")["repairs"]


def test_a_wrong_setting_on_the_command_line_is_one_sentence(unlearned):
    done = CliRunner().invoke(app, ["repair", unlearned, "--output", "x", "--set", "rank=0"])
    assert done.exit_code == 3
    assert "`settings.rank`: input should be greater than or equal to 1" in " ".join(done.stderr.split())


def test_the_recipe_that_repairs_the_demo_runs(unlearned):
    overrides = {f"settings.{key}": value for key, value in REPAIR.items()}
    overrides |= {"folder": unlearned, "forget": "numbers.jsonl", "retain": "words.jsonl", "output": "from-recipe"}
    carry_out(read_recipe(RECIPES / "repair" / "demo.yaml", overrides), progress=False)
    assert record_in("from-recipe").repairs[0].settings["method"] == yaml.safe_load(
        (RECIPES / "repair" / "demo.yaml").read_text()
    )["settings"].get("method", "lora")


def test_the_recipe_that_unlearns_and_repairs_runs():
    overrides = UNLEARN | {"dtype": "float32", "output": "from-recipe"}
    overrides |= {f"repair.{key}": value for key, value in REPAIR.items()}
    carry_out(read_recipe(RECIPES / "unlearn" / "code-repaired.yaml", overrides), progress=False)
    assert zero_where_removed("from-recipe")
