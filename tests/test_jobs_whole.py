"""One recipe does a whole job: unlearn, repair, save, compact, push; and everything is checked before it begins."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_languages import BLOCK
from transformers import AutoModelForCausalLM

from hf_untangle.errors import ConfigError, HubError, OutputError
from hf_untangle.folders import MARKER
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.methods.choose import PRUNE
from hf_untangle.recipes import push
from hf_untangle.recipes.read import carry_out, check_recipe, read_recipe
from hf_untangle.records.unlearning import UnlearnRecord

SETTINGS = {
    "tokens": 1024,
    "evaluation_tokens": 512,
    "block_size": BLOCK,
    "batch_size": 16,
    "ffn_fraction": 0.1,
    "attention_fraction": 0.05,
    "steps": 2,
}
REPAIR = {"steps": 2, "step_tokens": 128, "block_size": BLOCK, "batch_size": 4}


@pytest.fixture
def whole(project, tmp_path, monkeypatch):
    """Check a recipe for the project, with other stages; no report is drawn, which takes seconds."""
    monkeypatch.chdir(project)
    monkeypatch.setattr("hf_untangle.results.unlearned.write_report", lambda *_, **__: None)

    def make(**changes: Any):
        content = {"task": "unlearn", "model": "toy", "forget": "numbers.jsonl", "retain": "words.jsonl"}
        return check_recipe(content | {"settings": SETTINGS, "prompts": ["12"], "output": str(tmp_path / "out")} | changes)

    return make


@pytest.fixture
def pushed(monkeypatch):
    """What would go to the Hub, instead of sending it."""
    calls = []

    def push_folder(folder, repository, **options):
        calls.append((folder, repository, options))
        return "https://hub/commit"

    monkeypatch.setattr(push, "push_folder", push_folder)
    return calls


def test_one_recipe_repairs_compacts_and_pushes(whole, pushed, tmp_path):
    outcome = carry_out(
        whole(
            repair=REPAIR,
            compact={"output": str(tmp_path / "small"), "layout": "uniform"},
            push={"repository": "me/toy", "private": True},
        ),
        progress=False,
    )
    record = UnlearnRecord.model_validate_json((tmp_path / "out" / MARKER).read_text())
    assert [repair.settings["steps"] for repair in record.repairs] == [2]
    before, after = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("out", "small"))
    assert after.num_parameters() < before.num_parameters()
    tokens = torch.arange(24)[None]
    assert torch.allclose(before(tokens).logits, after(tokens).logits, atol=1e-5)
    assert [(folder, repository) for folder, repository, _ in pushed] == [(str(tmp_path / "small"), "me/toy")]
    assert pushed[0][2]["private"] is True
    assert outcome.record["pushed"] == "https://hub/commit"
    carried = UnlearnRecord.model_validate_json((tmp_path / "small" / MARKER).read_text())
    assert carried.compaction is not None and carried.weights is None
    assert carried.model_copy(update={"compaction": None, "weights": record.weights}) == record
    assert carried.compaction.parameters == outcome.record["compacted"]["parameters_after"] == after.num_parameters()


def test_removed_neurons_are_still_zero_after_the_repair(whole, tmp_path):
    carry_out(whole(repair=REPAIR), progress=False)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    mask = NeuronMask.load(tmp_path / "out" / "mask.safetensors")
    assert mask.removed() > 0
    assert all(not model.get_submodule(name).weight[:, ~kept].any() for name, kept in mask.items())


def test_without_further_stages_nothing_is_added_to_the_record(whole):
    outcome = carry_out(whole(), progress=False)
    assert UnlearnRecord.model_validate(outcome.record).repairs == ()


def test_a_failed_push_leaves_the_saved_result(whole, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> str:
        raise HubError("The Hub refuses.")

    monkeypatch.setattr(push, "push_folder", refuse)
    with pytest.raises(HubError, match="The Hub refuses"):
        carry_out(whole(push={"repository": "me/toy"}), progress=False)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").num_parameters() > 0


def test_a_failed_repair_leaves_the_unlearned_result(whole, tmp_path, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("hf_untangle.repairs.repair"), "repair_measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(whole(repair=REPAIR), progress=False)
    assert UnlearnRecord.model_validate_json((tmp_path / "out" / MARKER).read_text()).repairs == ()


def test_folders_are_checked_before_anything_long_begins(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_untangle.models.load", None)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(OutputError, match="was not written by hf_untangle"):
        carry_out(whole(compact={"output": str(tmp_path / "thesis")}))
    with pytest.raises(ConfigError, match="`compact.output` must differ from `output`, but both are"):
        carry_out(whole(compact={"output": str(tmp_path / "out")}))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"repair": {"stpes": 3}}, "There is no setting `repair.stpes` .did you mean `steps`"),
        ({"repair": {"steps": 0}}, "`repair.steps`: input should be greater than or equal to 1, got 0"),
        ({"compact": {"output": "a", "layuot": "ragged"}}, "no setting `compact.layuot` .did you mean `layout`"),
        ({"push": {}}, "`push.repository`: field required"),
        ({"push": {"repository": "me/a", "token": "hf_x"}}, "There is no setting `push.token`"),
    ],
)
def test_a_wrong_key_of_a_stage_is_named_with_its_stage(whole, stages, message):
    with pytest.raises(ConfigError, match=message):
        whole(**stages)


EVERY_RECIPE = sorted((Path(__file__).parents[1] / "recipes" / "unlearn").glob("*.yaml"))
RECIPES = [path for path in EVERY_RECIPE if "\nkind:" not in path.read_text()]
"""Those of causal language models; `test_tasks.py` runs the others."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_unlearning_recipe_runs_on_a_tiny_model(whole, path, tmp_path):
    tiny = {"model": "toy", "forget": "numbers.jsonl", "retain": "words.jsonl", "dtype": "float32"}
    loose = {"retain_budget": 1.0, "perplexity_budget": float("inf"), "controls": 1}
    settings = {f"settings.{key}": value for key, value in (SETTINGS | loose).items()}
    if getattr(read_recipe(path), "method", PRUNE) != PRUNE:
        settings |= {"settings.disruption_budget": 20.0, "settings.learning_rate": 1e-2, "settings.components": 2}
    if "rmu" in path.stem:
        settings |= {"settings.layer": 0}
    recipe = read_recipe(path, tiny | settings | {"output": str(tmp_path / "out")}).model_dump()
    if recipe["repair"]:
        recipe["repair"] |= REPAIR
    if recipe["attack"]:
        small = {"attacks": ["adapter"], "seeds": 1, "block_size": BLOCK, "evaluation_tokens": 128}
        recipe["attack"] |= {"settings": small}
    if recipe["compact"]:
        recipe["compact"] |= {"output": str(tmp_path / "small"), "round_to": 8}
    carry_out(check_recipe(recipe), progress=False)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").num_parameters() > 0
    assert (tmp_path / "small").exists() == bool(recipe["compact"])
