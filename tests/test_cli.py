"""The command line on a tiny checkpoint and two small files: what it prints where, and how it ends."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_languages import BLOCK
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from hf_untangle import models
from hf_untangle.cli.demo import DEMO, QUICK
from hf_untangle.cli.main import app
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.catalogue import CORPORA
from hf_untangle.folders import MARKER
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.methods.automatic import PRUNING_ALONE
from hf_untangle.pruning import iterative
from hf_untangle.recipes.read import check_recipe
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.statistics.activation_statistics import ActivationStatistics

SETTINGS = {
    "tokens": 1024,
    "evaluation_tokens": 512,
    "block_size": BLOCK,
    "batch_size": 16,
    "ffn_fraction": 0.1,
    "attention_fraction": 0.05,
    "steps": 2,
}
DONE, WRONG_USAGE, BAD_INPUT, OVER_BUDGET, INTERRUPTED = 0, 2, 3, 4, 130


@pytest.fixture
def run(project, monkeypatch):
    """Run a command inside the project."""
    monkeypatch.chdir(project)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def recipe(tmp_path):
    """Write a recipe for the project, changed here and there."""

    def write(**changes: Any) -> Path:
        content = {"task": "unlearn", "model": "toy", "forget": "numbers.jsonl", "retain": "words.jsonl"}
        content |= {"settings": SETTINGS, "prompts": ["12 34"], "output": str(tmp_path / "out")}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content | changes))
        return tmp_path / "recipe.yaml"

    return write


def parsed(result: Result) -> Any:
    """Read standard output, which must be nothing but strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(result.stdout, parse_constant=refuse)


def sentence(result: Result) -> str:
    """The error that was shown, on one line."""
    assert "Traceback" not in result.stderr
    return " ".join((result.stdout + result.stderr).split())


def test_help_lists_every_command_and_what_exit_codes_mean(run):
    result = run("--help")
    assert result.exit_code == DONE
    for word in ("demo", "unlearn", "run", "collect", "evaluate", "groups", "corpora", "Exit codes", "130"):
        assert word in result.stdout


@pytest.mark.parametrize("command", ["demo", "unlearn", "run", "collect", "evaluate", "groups", "corpora"])
def test_every_command_explains_itself(run, command):
    result = run(command, "--help")
    assert result.exit_code == DONE
    assert "--json" in result.stdout


def test_groups_as_json(run):
    result = run("groups", "toy", "--json")
    assert result.exit_code == DONE
    assert parsed(result)[:2] == [
        {
            "name": "model.layers.0.self_attn.o_proj",
            "kind": "attention",
            "layer": 0,
            "neurons": 32,
            "heads": 4,
            "key_value_heads": 2,
            "producers": ["model.layers.0.self_attn.v_proj"],
        },
        {
            "name": "model.layers.0.mlp.down_proj",
            "kind": "ffn",
            "layer": 0,
            "neurons": 256,
            "heads": None,
            "key_value_heads": None,
            "producers": ["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"],
        },
    ]


def test_groups_are_a_table_on_standard_output(run):
    result = run("groups", "toy")
    assert (result.exit_code, "Traceback" in result.stderr) == (DONE, False)
    assert all(word in result.stdout for word in ("256", "gate_proj", "up_proj", "attention"))


def test_corpora_are_listed_with_their_licenses(run):
    rows = parsed(run("corpora", "--json"))
    assert [row["name"] for row in rows] == list(CORPORA)
    assert next(row for row in rows if row["name"] == "general")["without network"] == "yes"
    assert all(row["license"] for row in rows)
    assert "general" in run("corpora").stdout


def test_statistics_are_collected_into_a_file(run, tmp_path):
    result = run("collect", "toy", "numbers.jsonl", "-o", tmp_path / "numbers.safetensors", "--tokens", 512, "--json")
    assert result.exit_code == DONE
    statistics = ActivationStatistics.load(tmp_path / "numbers.safetensors")
    assert statistics.corpora == (parsed(result),)
    assert statistics.tokens == 512
    assert len(statistics) == 4
    assert all(moments.root is None for moments in statistics.values())


def test_statistics_with_roots_of_another_part(run, tmp_path):
    result = run("collect", "toy", "words.jsonl", "-o", tmp_path / "a", "--tokens", 256, "--part", "test", "--roots")
    assert (result.exit_code, "Traceback" in result.stderr) == (DONE, False)
    assert "Statistics of 256 tokens of words.jsonl are in" in sentence(result)
    statistics = ActivationStatistics.load(tmp_path / "a")
    assert statistics.corpora[0]["part"] == "test"
    assert all(moments.root is not None for moments in statistics.values())


def test_several_corpora_are_evaluated_at_once(run):
    result = run("evaluate", "toy", "numbers.jsonl", "words.jsonl", "--tokens", 512, "--json")
    metrics = parsed(result)
    assert list(metrics) == ["numbers.jsonl", "words.jsonl"]
    assert all(set(one) == {"tokens", "top1", "top10", "loss", "perplexity"} for one in metrics.values())
    assert metrics["words.jsonl"]["tokens"] == 510
    assert metrics["words.jsonl"]["top1"] > 0.3


def test_an_evaluation_as_a_table(run):
    result = run("evaluate", "toy", "words.jsonl", "--tokens", 256)
    assert (result.exit_code, "Traceback" in result.stderr) == (DONE, False)
    assert "words.jsonl" in result.stdout and "perplexity" in result.stdout


def test_unlearning_ends_in_a_checkpoint_and_a_table(run, tmp_path):
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    corpora = ("--forget", "numbers.jsonl", "--retain", "words.jsonl")
    result = run("unlearn", "toy", *corpora, "--output", tmp_path / "out", *settings)
    assert (result.exit_code, "Traceback" in result.stderr) == (DONE, False)
    assert "top-1" in result.stdout and "before" in result.stdout and "after" in result.stdout
    assert "Within budget: words.jsonl lost" in sentence(result) or "Over budget: words.jsonl lost" in sentence(result)
    assert f"Saved in {tmp_path / 'out'}" in sentence(result)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").num_parameters() > 0
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.usefixtures("no_report")
def test_a_recipe_does_the_same_and_prints_its_record(run, recipe, tmp_path):
    result = run("run", recipe(), "--json")
    assert result.exit_code == DONE
    record = UnlearnRecord.model_validate(parsed(result))
    assert record == UnlearnRecord.model_validate_json((tmp_path / "out" / MARKER).read_text())
    assert record.model == "toy"
    assert record.corpora["forget_train"]["corpus"] == "numbers.jsonl"
    assert [one.prompt for one in record.continuations] == ["12 34"]
    assert NeuronMask.load(tmp_path / "out" / "mask.safetensors").removed() > 0


@pytest.mark.usefixtures("no_report")
def test_a_recipe_can_be_overridden(run, recipe, tmp_path):
    overrides = ("--set", f"output={tmp_path / 'other'}", "--set", "settings.steps=1", "--set", "preset=paper")
    result = run("run", recipe(settings=SETTINGS | {"packed": True}), *overrides, "--json")
    record = parsed(result)
    assert (len(record["history"]["steps"]), record["config"]["importance"]) == (1, "abs")
    assert record["config"]["perplexity_budget"] == "Infinity"
    assert (tmp_path / "other" / MARKER).exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("unlearn", "toy", "--output", "out"),
        ("groups",),
        ("evaluate", "toy", "words.jsonl", "--part", "exam"),
        ("evaluate", "toy", "words.jsonl", "--tokens", "many"),
        ("frobnicate",),
    ],
)
def test_wrong_usage_ends_with_2(run, words):
    result = run(*words)
    assert result.exit_code == WRONG_USAGE
    assert "Error" in result.stderr


UNLEARN = ("unlearn", "toy", "-o", "new", "--retain", "words.jsonl")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("groups", "nowhere/at/all"), "`nowhere/at/all` must be a folder with a checkpoint"),
        (("groups", "toy", "--dtype", "float31"), "must be one of auto, checkpoint, float32, bfloat16, float16, got `float31`"),
        (("evaluate", "toy", "cod"), "no corpus named `cod`"),
        (("evaluate", "toy", "none.csv"), "There is no file or folder `none.csv`"),
        (("evaluate", "toy", "none[train].csv"), "There is no file or folder `none[train].csv`"),
        (("evaluate", "toy", "words.jsonl:txet"), "has no column `txet`"),
        (("evaluate", "toy", "words.jsonl", "--tokens", "0"), "`tokens`: input should be greater than or equal to 1, got 0"),
        (("collect", "toy", "words.jsonl", "-o", "words.jsonl/a"), "words.jsonl/a"),
        ((*UNLEARN, "--forget", "words.jsonl", "--set", "block_size=32"), "must differ, but both are `words.jsonl (forget)`"),
        ((*UNLEARN, "--forget", "numbers.jsonl", "--set", "stepz=3"), "no setting `stepz` (did you mean `steps`?)"),
        ((*UNLEARN, "--forget", "numbers.jsonl", "--set", "steps"), "must look like `key=value`"),
        ((*UNLEARN, "--forget", "numbers.jsonl", "--set", "config=paper"), "no setting `config`"),
        ((*UNLEARN, "--forget", "numbers.jsonl", "--preset", "papr"), "got 'papr' (did you mean `paper`?)"),
        ((*UNLEARN, "--forget", "numbers.jsonl", "-o", "toy"), "must not contain what it is made from"),
        (("run", "none.yaml"), "there is no file `none.yaml`"),
    ],
)
def test_bad_input_ends_with_3_and_one_sentence(run, project, words, message):
    before = sorted(project.rglob("*"))
    result = run(*words)
    assert result.exit_code == BAD_INPUT, result.exception
    assert message in sentence(result)
    assert sorted(project.rglob("*")) == before


def test_an_unknown_key_of_a_recipe_gets_the_nearest_name(run, recipe):
    result = run("run", recipe(retian="general"))
    assert (result.exit_code, "no setting `retian` (did you mean `retain`?)" in sentence(result)) == (BAD_INPUT, True)
    result = run("run", recipe(settings={"importanse": "abs"}))
    assert (result.exit_code, "`importanse` (did you mean `importance`?)" in sentence(result)) == (BAD_INPUT, True)


def test_everything_that_needs_no_model_is_checked_before_the_model_is_loaded(run, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load", None)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    for changes in (
        {"settings": {"steps": 0}},
        {"preset": "papr"},
        {"forget": "cod"},
        {"retain": {"source": "words.jsonl", "column": "txet"}},
        {"output": str(tmp_path / "thesis")},
    ):
        assert run("run", recipe(**changes)).exit_code == BAD_INPUT


def test_a_broken_budget_ends_with_4_and_writes_nothing(run, recipe, tmp_path):
    settings = SETTINGS | {"ffn_fraction": 0.6, "attention_fraction": 0.5, "retain_budget": 0.0}
    result = run("run", recipe(settings=settings), "--json")
    assert result.exit_code == OVER_BUDGET
    assert "Nothing was removed. Allow a larger retain_budget" in sentence(result)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_report")
def test_an_interruption_ends_with_130_and_the_same_command_goes_on(run, recipe, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("hf_untangle.unlearn"), "continuations", interrupted)
        result = run("run", recipe())
    assert result.exit_code == INTERRUPTED
    assert "An unlearning run continues after its last finished step when the same command is given" in sentence(result)
    monkeypatch.setattr(iterative, "remove_next", None)
    assert run("run", recipe()).exit_code == DONE


def test_the_demo_is_a_recipe_that_needs_no_network():
    recipe: Any = check_recipe(DEMO | {"output": "out"})
    assert recipe.model in models.EMBEDDED
    assert recipe.method == "auto" and not set(recipe.settings) & PRUNING_ALONE
    prose, own = recipe.retain.several
    assert (recipe.forget.prefer, prose.prefer, own.source) == ("embedded", "embedded", "self")
    quick: Any = check_recipe(DEMO | QUICK | {"output": "out"})
    assert UnlearnConfig.resolve(quick.preset, **quick.settings) == UnlearnConfig.presets()["quick"]


@pytest.mark.parametrize("option", ["--preset", "--config"])
def test_settings_to_start_from_are_named_on_the_command_line(run, option, monkeypatch):
    asked = []
    monkeypatch.setattr("hf_untangle.cli.run.do", lambda content, **_: asked.append(content))
    run("unlearn", "smollm2", "--forget", "code", option, "quick", "-o", "out")
    assert [one["preset"] for one in asked] == ["quick"]
