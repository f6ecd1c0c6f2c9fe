"""Ticket search as a recipe and as a command, and on several processes."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from toy_languages import NUMBERS, WORDS
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.errors import ConfigError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.nets.record import Ticket
from hf_untangle.recipes.read import carry_out, check_recipe, read_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
TINY = {"population": 4, "generations": 1}


@pytest.fixture
def folder(taught, tokenizer, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    taught.save_pretrained("toy")
    tokenizer.save_pretrained("toy")
    for name, texts in (("numbers", NUMBERS), ("words", WORDS)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tmp_path


def test_the_digits_recipe_writes_a_ticket_and_a_table(folder):
    overrides = {"settings": TINY | {"density": 0.5}, "compare_after": [2, 4], "output": "ticket"}
    outcome = carry_out(read_recipe(RECIPES / "papers" / "tickets" / "digits-ticket.yaml", overrides), progress=False)
    assert [one["name"] for one in outcome.record["contestants"]][:2] == ["ticket", "random mask"]
    assert Ticket.load("ticket/ticket.safetensors").density == pytest.approx(outcome.record["density"])
    assert json.loads(Path("ticket/untangle.json").read_text())["density"] == outcome.record["density"]


def test_a_ticket_that_cannot_be_compared_is_written_all_the_same(folder, capsys):
    overrides = {"settings": TINY | {"shrink": 0.0, "steps": 1}, "output": "ticket"}
    outcome = carry_out(read_recipe(RECIPES / "papers" / "tickets" / "digits-ticket.yaml", overrides), progress=False)
    assert outcome.record["contestants"] == []
    assert outcome.record["not_compared"].startswith("A comparison at equal density needs a ticket that keeps some weights")
    assert Ticket.load("ticket/ticket.safetensors").density == 1
    outcome.show(Console())
    assert "The ticket was not compared: A comparison at equal density" in " ".join(capsys.readouterr().out.split())


def test_the_language_model_recipe_writes_a_mask(folder):
    overrides = {
        "model": "toy",
        "dtype": "float32",
        "retain": "words.jsonl",
        "forget": "numbers.jsonl",
        "tokens": 512,
        "block_size": 32,
        "settings": TINY | {"density": 0.9, "forget_weight": 0.5},
        "output": "mask",
    }
    outcome = carry_out(read_recipe(RECIPES / "nets" / "smollm2-neurons.yaml", overrides), progress=False)
    mask = NeuronMask.load("mask/mask.safetensors")
    assert mask.removed() == sum(outcome.record["removed"].values()) > 0


def test_the_command_does_what_the_recipe_does(folder):
    words = ["nets", "toy", "--retain", "words.jsonl", "-o", "mask", "--json"]
    for setting in ("population=4", "generations=1"):
        words += ["--set", setting]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["corpora"].keys() == {"retain"}


def test_both_or_neither_is_refused():
    for wrong in ({}, {"network": "mlp", "model": "smollm2"}):
        with pytest.raises(ConfigError, match="name either a `network` on digits or a language `model`"):
            check_recipe({"task": "nets", "output": "out", **wrong})


ISLANDS = """
import json, pathlib, torch
from torch import distributed, nn
from hf_untangle.nets.ticket_search import search
distributed.init_process_group("gloo")
torch.set_num_threads(1)
inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
examples = (inputs, (inputs[:, 0] > 0).long())
ticket = search(nn.Linear(3, 2), examples, examples, population=6, generations=6, steps=2, migrate_every=2,
                sparsity_weight=0.5, progress=False)
saw = [ticket.individual_steps, ticket.history[-1].fitness, ticket.masks["weight"].tolist()]
pathlib.Path(f"rank-{distributed.get_rank()}.json").write_text(json.dumps(saw))
distributed.destroy_process_group()
"""


def test_two_islands_agree_on_the_best_of_both(forked, tmp_path):
    script = tmp_path / "islands.py"
    script.write_text(ISLANDS)
    done = forked(tmp_path, script, ranks=2)
    assert done.returncode == 0, done.stderr
    saw = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    (steps, fitness, masks), (other_steps, other_fitness, other_masks) = saw
    assert steps == other_steps == 2 * 6 * 2 * 7
    assert masks == other_masks
    assert fitness != other_fitness
