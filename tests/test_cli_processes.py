"""Every command and every recipe as a program: with `--json`, standard output is one JSON value to the last byte."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from forked import COMMAND
from toy_languages import BLOCK

from hf_untangle.cli.main import BENCHMARKS, RECIPE_COMMANDS, app

RECIPES = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))
NAMES = ["numbers.jsonl", "words.jsonl"]
SMALL = ("--set", f"block_size={BLOCK}", "--set", "tokens=512", "--set", "evaluation_tokens=256", "--set", "batch_size=16")
CORPORA = ("--forget", NAMES[0], "--retain", NAMES[1])
UNLEARN = (
    *("unlearn", "toy", *CORPORA, *SMALL, "--set", "steps=1", "--set", "retain_budget=0.5", "--set", "ffn_fraction=0.1"),
    *("--prompts", "12 34", "--keep-removed"),
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "groups": ("groups", "toy"),
    "corpora": ("corpora",),
    "models": ("models", "--type", "gpt2"),
    "schema": ("schema",),
    "entropy": ("entropy", "toy", "--corpus", NAMES[1], "--tokens", "512"),
    "evaluate": ("evaluate", "toy", *NAMES, "--tokens", "256", "--block-size", str(BLOCK)),
    "collect": ("collect", "toy", NAMES[1], "-o", "out/statistics.safetensors", "--tokens", "256"),
    "prune": ("prune", "toy", "--data", NAMES[1], *SMALL, "--set", "ratio=0.25", "--dry-run", "-o", "out/pruned"),
    "repair": ("repair", "result", *CORPORA, "--set", "steps=1", "--set", "step_tokens=256", "-o", "out/repaired"),
    "robustify": (
        *("robustify", "result", *CORPORA, "--tokens", "256", "--text-tokens", "256", "--own-tokens", "0"),
        *("--block-size", str(BLOCK), "--step-tokens", "256", "--evaluation-tokens", "256", "-o", "out/robust"),
    ),
    "attack": (
        *("attack", "result", *CORPORA, "--original", "toy", "-o", "out/attacked"),
        *("--set", "attacks=[quantize]", "--set", "evaluation_tokens=256"),
    ),
    "restore": ("restore", "result", "-o", "out/restored"),
    "compact": ("compact", "result", "out/small", "--layout", "ragged"),
    "adapter": ("adapter", "result", "out/adapter"),
    "push": ("push", "result", "me/toy", "--dry-run"),
    "hidden-size": (
        *("hidden-size", "toy", "--size", "16", "--data", NAMES[1], "--tokens", "512", "--block-size", str(BLOCK)),
        *("--evaluation-tokens", "256", "-o", "out/narrow"),
    ),
    "translate": ("translate", "kan", "toy.safetensors", "-o", "out/kan"),
    "nets": (
        *("nets", "toy", "--retain", NAMES[1], "--tokens", "512", "--block-size", str(BLOCK)),
        *("--set", "population=4", "--set", "generations=1", "-o", "out/nets"),
    ),
}
"""A command that ends well, by name; in a folder with a model, two corpora, a result and a multilayer perceptron."""
TAKE_LONG = {"density", "vocabulary", "entropy-masks", "bench methods", "bench facts", "bench published", "demo"}
"""Commands that are not carried out here: that they refuse a wrong setting shows what they print, and where."""


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def value(self) -> Any:
        """Standard output, which must be nothing but strict JSON."""
        assert self.code == 0, self.stderr
        return json.loads(self.stdout, parse_constant=pytest.fail)


@pytest.fixture(scope="session")
def run(forked) -> Callable[..., Done]:
    """Run a command in a process of its own."""

    def one(folder: Path, *words: object) -> Done:
        done = forked(folder, COMMAND, *words)
        return Done(done.returncode, done.stdout, done.stderr)

    return one


@pytest.fixture(scope="module")
def result(run, project) -> Path:
    """The folder of the project, with the result of `unlearn` in it, and a multilayer perceptron."""
    import torch
    from torch import nn

    from hf_untangle.translation.mlp_files import save_mlp

    done = run(project, *UNLEARN, "-o", "result", "--json")
    assert done.value["model"] == "toy"
    assert "{" not in done.stderr.splitlines()[0]
    torch.manual_seed(0)
    save_mlp(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)), project / "toy.safetensors")
    return project


def test_every_command_is_here():
    every = {name for name, command in app_commands().items() if command}
    assert set(COMMANDS) | TAKE_LONG | {"unlearn", "run", "show"} == every


def app_commands() -> dict[str, bool]:
    """The names of all commands, those below `bench` with it."""
    own = {str(one.name): True for one in app.registered_commands}
    assert set(RECIPE_COMMANDS) <= set(own)
    return own | {f"bench {name}": True for name in BENCHMARKS}


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_all_that_is_on_standard_output(run, result, name):
    as_json = () if name == "schema" else ("--json",)
    done = run(result, *COMMANDS[name], *as_json)
    assert done.value
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["groups", "entropy", "evaluate", "collect", "prune", "restore", "compact"])
def test_a_quiet_command_says_nothing_beside_its_result(run, result, name):
    done = run(result, *COMMANDS[name], "--quiet")
    assert done.code == 0, done.stderr
    assert done.stdout and done.stderr == ""


@pytest.mark.parametrize("name", sorted(TAKE_LONG - {"demo"}))
def test_a_refused_command_prints_nothing_on_standard_output(run, result, name):
    done = run(result, *name.split(), "--json", "--set", "no_such_setting=1", "-o", "out/refused")
    assert (done.code in (2, 3), done.stdout) == (True, "")
    assert "Error" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", [*COMMANDS, *sorted(TAKE_LONG), "run", "show", "unlearn"])
def test_every_command_has_a_short_flag_for_its_help(run, project, name):
    done = run(project, *name.split(), "-h")
    assert (done.code, "Usage" in done.stdout) == (0, True)
    assert done.stderr == ""


def test_the_version_is_a_line_of_its_own(run, project):
    done = run(project, "--version")
    assert (done.code, done.stdout.count("."), done.stdout.count("\n")) == (0, 2, 1)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_dry_run_of_every_recipe_is_json_alone(run, project, path):
    content = yaml.safe_load(path.read_text())
    model = ("--set", "model=toy") if isinstance(content.get("model"), str) and content["model"] != "digits-vit" else ()
    before = sorted(project.rglob("*"))
    done = run(project, "run", path, "--dry-run", "--json", *model)
    assert done.value["recipe"]["task"] == content["task"]
    assert sorted(project.rglob("*")) == before
    shown = run(project, "run", path, "--dry-run", *model)
    assert shown.code == 0 and f"task: {content['task']}" in shown.stdout
