"""How commands load a model: the same options everywhere, no code but where it was asked for, and a wrong name said at once."""

import json
import subprocess
import sys
import time
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hf_untangle import models
from hf_untangle.cli import entropy, inspect, show
from hf_untangle.cli.from_recipes import function_of
from hf_untangle.cli.main import BENCHMARKS, RECIPE_COMMANDS, app
from hf_untangle.errors import ConfigError
from hf_untangle.recipes.read import check_recipe

ROOT = Path(__file__).parents[1]
LOADING = {"revision", "trust_remote_code", "device_map"}
WITHOUT_A_MODEL = {"compact", "adapter", "push"}
"""Commands that read files alone."""
BY_HAND = {"groups": inspect.groups_command, "entropy": entropy.entropy_command, "show": show.show_command}
COMMANDS = {name: function_of(command) for name, command in (RECIPE_COMMANDS | BENCHMARKS).items()} | BY_HAND


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITHOUT_A_MODEL))
def test_every_command_that_loads_a_model_takes_the_options_of_from_pretrained(name):
    expected = LOADING - {"revision"} if name == "restore" else LOADING
    parameters = signature(COMMANDS[name]).parameters
    assert expected <= set(parameters)
    assert not parameters["trust_remote_code"].default
    assert "quiet" in parameters


@pytest.mark.parametrize("name", sorted(WITHOUT_A_MODEL))
def test_a_command_that_reads_files_alone_takes_none_of_them(name):
    assert not {"trust_remote_code", "device_map"} & set(signature(COMMANDS[name]).parameters)


@pytest.mark.parametrize("task", ["unlearn", "prune", "evaluate", "collect"])
def test_code_of_a_checkpoint_is_trusted_by_nobody_who_does_not_say_so(task):
    content = {"task": task, "model": "m", "output": "out"}
    content |= {"unlearn": {"forget": "code"}, "collect": {"corpus": "code"}}.get(task, {})
    assert check_recipe(content).loading == {
        "dtype": "auto",
        "device_map": None,
        "revision": None,
        "trust_remote_code": False,
    }


@pytest.fixture
def asked_for(toy_model, tokenizer, monkeypatch) -> dict[str, dict[str, Any]]:
    """What transformers is asked for, instead of the Hub; it gives the toy model."""
    asked: dict[str, dict[str, Any]] = {}
    given = {"AutoModelForCausalLM": toy_model, "AutoTokenizer": tokenizer}

    for loader, found in given.items():

        def from_pretrained(name: str, *, loader: str = loader, found: Any = found, **how: Any) -> Any:
            asked[loader] = how | {"name": name}
            return found

        monkeypatch.setattr(getattr(models, loader), "from_pretrained", from_pretrained)
    monkeypatch.setattr("hf_untangle.hub.reachable.hub_is_reachable", lambda: True)
    return asked


def test_the_options_reach_both_the_model_and_its_tokenizer(asked_for):
    words = ["--revision", "v1.0", "--trust-remote-code", "--device-map", "cpu", "--json"]
    done = CliRunner().invoke(app, ["groups", "me/toy", *words])
    assert done.exit_code == 0, done.stderr
    assert len(json.loads(done.stdout)) == 4
    expected = {"name": "me/toy", "revision": "v1.0", "trust_remote_code": True}
    assert asked_for["AutoModelForCausalLM"].items() >= (expected | {"device_map": "cpu"}).items()
    assert asked_for["AutoTokenizer"].items() >= expected.items()


def test_without_options_the_main_branch_is_loaded_and_no_code_may_run(asked_for):
    assert CliRunner().invoke(app, ["evaluate", "me/toy", "general", "--tokens", "64", "--block-size", "32"]).exit_code == 0
    for asked in asked_for.values():
        assert (asked["revision"], asked["trust_remote_code"]) == ("main", False)


@pytest.mark.parametrize(("model", "what"), [("toy", "a folder"), ("smollm2", "a model in a package")])
def test_a_revision_of_what_has_none_is_refused(project, monkeypatch, model, what):
    monkeypatch.chdir(project)
    with pytest.raises(ConfigError, match=f"A revision must be one of a model on the Hub, but `{model}` is {what}, got `v1`"):
        models.load(model, revision="v1")


@pytest.mark.parametrize("words", [("groups", "owner/no-such-model"), ("unlearn", "smolm2", "--forget", "code", "-o", "out")])
def test_a_model_that_is_nowhere_is_said_before_a_large_library_is_imported(words, tmp_path):
    begin = "import sys; from hf_untangle.cli.main import app; app(standalone_mode=False)"
    check = f"try:\n    exec({begin!r})\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    where = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path), "PATH": ""}
    start = time.perf_counter()
    call = [sys.executable, "-c", f"import sys\n{check}", *words]
    done = subprocess.run(call, cwd=tmp_path, env=where, capture_output=True, text=True, check=False, timeout=60)
    assert time.perf_counter() - start < 20, "a second or two where the machine is not busy"
    said = " ".join(done.stderr.split())
    assert "must be a folder with a checkpoint, a model on the Hub, or one of" in said
    assert done.stderr.strip().splitlines()[-1] == "False"
    assert done.stdout == ""
    assert ("did you mean `smollm2`" in said) == (words[0] == "unlearn")
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_whose_model_is_nowhere_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_untangle.hub.reachable.hub_is_reachable", lambda: False)
    (tmp_path / "recipe.yaml").write_text("task: unlearn\nmodel: owner/no-such-model\nforget: code\noutput: out\n")
    done = CliRunner().invoke(app, ["run", str(tmp_path / "recipe.yaml"), "--dry-run"])
    assert done.exit_code == 3
    assert "`owner/no-such-model` must be a folder" in " ".join(done.stderr.split())
    other = CliRunner().invoke(app, ["run", str(tmp_path / "recipe.yaml"), "--dry-run", "--set", "model=./none"])
    assert other.exit_code == 3
    assert "`./none` must be a folder" in " ".join(other.stderr.split())
