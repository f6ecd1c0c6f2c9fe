"""Dry runs and the schema: what a job would do and may say, without doing any of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import ArchitectureError
from hf_untangle.recipes.estimates import PROGRAM, graph_bytes, repair_stage, unlearning_stages
from hf_untangle.recipes.model_size import ModelSize, bare_model, size_of
from hf_untangle.recipes.plan import Plan, Stage, size_in_words
from hf_untangle.recipes.registry import JOBS, job_of
from hf_untangle.recipes.schema import recipe_schema
from hf_untangle.recipes.speed import Speed, measure_speed

RECIPES = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))
SIZE = ModelSize(parameters=1000, head=256, body=744, layers=2, hidden=8, intermediate=16, vocabulary=32, dtype=torch.bfloat16)
"""Whose head is tied to its embedding, so that a pass of all of it multiplies by 1,000 parameters."""


@pytest.fixture
def checkpoint(tiny_model, tmp_path) -> Path:
    """A tiny Llama in a folder."""
    tiny_model("llama").save_pretrained(tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture
def recipe(checkpoint, tmp_path):
    """Write a recipe for the tiny Llama."""

    def write(**changes: Any) -> str:
        content = {"task": "unlearn", "model": str(checkpoint), "forget": "code", "output": str(tmp_path / "out")}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content | changes))
        return str(tmp_path / "recipe.yaml")

    return write


def dry_run(*words: str):
    return CliRunner().invoke(app, ["run", *words, "--dry-run"])


def test_a_dry_run_lists_the_stages_and_writes_nothing(recipe, tmp_path):
    file = recipe(repair={"steps": 3}, compact={"output": str(tmp_path / "small")}, push={"repository": "me/toy"})
    before = sorted(tmp_path.rglob("*"))
    result = dry_run(file, "--json")
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)
    assert [stage["stage"] for stage in plan["stages"]] == ["load", "unlearn", "evaluate", "repair", "save", "compact", "push"]
    assert all(stage["seconds"] > 0 and stage["bytes"] > 0 for stage in plan["stages"][1:4])
    assert plan["recipe"]["repair"]["steps"] == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_reads_no_weights(recipe, checkpoint):
    (checkpoint / "model.safetensors").unlink()
    result = dry_run(recipe())
    assert result.exit_code == 0, result.stderr
    assert "parameters, float32" in result.stdout and "Nothing was read but the configuration" in " ".join(
        result.stdout.split()
    )


def test_a_dry_run_takes_overrides_and_refuses_what_a_run_refuses(recipe):
    assert "4 steps" in dry_run(recipe(method="prune"), "--set", "settings.steps=4").stdout
    result = dry_run(recipe(), "--set", "settings.stepz=4")
    assert (result.exit_code, "no setting `stepz`" in result.stderr) == (3, True)


def test_a_dry_run_says_what_auto_is_expected_to_be(recipe):
    def stages(**changes: Any) -> list[str]:
        return [stage["stage"] for stage in json.loads(dry_run(recipe(**changes), "--json").stdout)["stages"]]

    assert "wga" in stages() and "unlearn" not in stages()
    assert "unlearn" in stages(settings={"ffn_fraction": 0.1}) and "wga" not in stages(settings={"ffn_fraction": 0.1})


def test_a_task_without_an_estimate_says_so(tmp_path):
    result = dry_run(str(next(path for path in RECIPES if path.parent.name == "push")))
    assert result.exit_code == 0
    assert "repository: you/smollm2-without-code" in result.stdout
    assert "gives no estimate" in result.stdout


def test_the_size_comes_from_the_configuration(checkpoint):
    bare, model = bare_model(str(checkpoint)), AutoModelForCausalLM.from_pretrained(checkpoint)
    size = size_of(bare)
    assert size.parameters == model.num_parameters()
    assert size.body == sum(one.numel() for one in model.model.parameters()) - model.model.embed_tokens.weight.numel()
    assert size.head == model.lm_head.weight.numel()
    assert (size.layers, size.hidden, size.intermediate, size.vocabulary) == (2, 32, 48, 258)
    assert size.weights == 4 * size.parameters
    assert size_of(bare, "bfloat16").weights == 2 * size.parameters


def test_a_head_that_is_tied_to_the_embedding_counts_once(tiny_model, tmp_path):
    model = tiny_model("gpt2")
    model.save_pretrained(tmp_path / "tied")
    size = size_of(bare_model(str(tmp_path / "tied")))
    assert size.parameters == model.num_parameters() == size.body + size.head


def test_a_model_that_is_nowhere_is_an_error(tmp_path):
    with pytest.raises(ArchitectureError, match="but its configuration could not be read"):
        bare_model(str(tmp_path / "none"))


def test_work_of_a_search_by_hand():
    config = UnlearnConfig(steps=2, tokens=100, gradient_tokens=10, evaluation_tokens=50, controls=1, bisections=3)
    load, search, evaluation = unlearning_stages(SIZE, config)
    assert (load.forward, load.backward, load.memory) == (0, 0, PROGRAM + 2000)
    # The first step reads 2 x 100 tokens without the head, at 5/4 of the price, and both run 10 + 5 forward and back.
    assert (search.forward, search.backward) == (2 * 100 * 744 * 5 // 4, 2 * 15 * 1000)
    # The original, 2 steps, a control of the chosen one, three parts of the last, and on the test parts the original, the
    # result, three random masks, magnitude and retain-only.
    assert (evaluation.forward, evaluation.backward) == (2 * 50 * (1 + 2 + 1 + 3 + 7) * 1000, 0)
    without = unlearning_stages(SIZE, config.with_settings(controls=0, bisections=0))[2]
    assert without.forward == 2 * 50 * (1 + 2 + 2) * 1000


def test_one_look_is_enough_where_steps_share_their_statistics():
    often, once = (unlearning_stages(SIZE, UnlearnConfig(steps=5, iterative=each))[1] for each in (True, False))
    assert (often.forward, often.backward) == (once.forward, 5 * once.backward)
    often, once = (unlearning_stages(SIZE, UnlearnConfig(steps=5, iterative=each, candidates=1))[1] for each in (True, False))
    assert (often.forward, often.backward) == (5 * once.forward, 0)


def test_training_all_weights_takes_more_memory_than_an_adapter():
    lora, full = (repair_stage(SIZE, RepairConfig(method=method), 0) for method in ("lora", "full"))
    assert (full.backward, full.forward) == (lora.backward, lora.forward)
    assert full.memory - lora.memory == 16 * 1000 - 2 * 1000


def test_a_teacher_adds_its_weights_and_a_pass():
    alone, taught = (repair_stage(SIZE, RepairConfig(distill=share), 0) for share in (0.0, 0.5))
    assert (alone.forward, taught.forward, taught.backward) == (0, 25 * 1024 * 1000, alone.backward)
    assert taught.memory - alone.memory == SIZE.weights


def test_memory_of_a_graph_grows_with_its_tokens():
    assert graph_bytes(SIZE, 20) == 2 * graph_bytes(SIZE, 10) > 0


def test_time_is_work_over_speed():
    plan = Plan({}, (Stage("a", "", forward=600, backward=100),), Speed(forward=200.0, backward=50.0))
    assert plan.record()["stages"][0]["seconds"] == 600 / 200 + 100 / 50


def test_the_first_layers_of_a_model_are_timed_without_its_weights(checkpoint):
    model = bare_model(str(checkpoint))
    speed = measure_speed(model, torch.float32)
    assert speed is not None and speed.forward > speed.backward > 1e3


def test_where_layers_do_not_run_alone_the_time_is_left_out(checkpoint):
    model = bare_model(str(checkpoint))
    del model.model.rotary_emb
    assert measure_speed(model, torch.float32) is None
    plan = Plan({}, (Stage("a", "", forward=600, memory=1000),), None)
    assert plan.record()["stages"][0]["seconds"] is None
    with (console := Console()).capture() as said:
        plan.show(console)
    assert "1 kB" in said.get() and " s " not in said.get().partition("An estimate")[0]


@pytest.mark.parametrize(
    ("number", "words"), [(12, "12 B"), (1500, "1.5 kB"), (269_000_000, "269 MB"), (2_770_000_000, "2.77 GB")]
)
def test_bytes_in_words(number, words):
    assert size_in_words(number) == words


def test_the_schema_of_recipes_is_json_and_has_every_task():
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    assert schema == recipe_schema()
    assert set(schema["discriminator"]["mapping"]) == set(JOBS)


def task_schema(schema: dict[str, Any], task: str) -> dict[str, Any]:
    return schema["$defs"][schema["discriminator"]["mapping"][task].rpartition("/")[2]]


def test_the_schema_explains_every_key_of_every_task():
    schema = recipe_schema()
    for task in JOBS:
        properties = task_schema(schema, task)["properties"]
        assert set(properties) == set(job_of(task).recipe.model_fields)
        assert {key for key, value in properties.items() if "description" not in value} <= {"settings"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_own_recipes_follow_the_schema(path):
    content = yaml.safe_load(path.read_text())
    schema = task_schema(recipe_schema(), content["task"])
    assert set(schema["required"]) <= set(content) <= set(schema["properties"])
    settings = schema["properties"].get("settings", {}).get("properties")
    assert settings is None or set(content.get("settings", {})) <= set(settings)


def test_every_reference_of_the_schema_is_defined():
    schema = recipe_schema()

    def references(value: Any):
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            value = list(value.values())
        for one in value if isinstance(value, list) else ():
            yield from references(one)

    assert {reference.rpartition("/")[2] for reference in references(schema)} <= set(schema["$defs"])


def test_a_corpus_may_be_a_string_in_the_schema():
    choices = recipe_schema()["$defs"]["CorpusChoice"]["anyOf"]
    assert [choice["type"] for choice in choices] == ["string", "array", "object"]
