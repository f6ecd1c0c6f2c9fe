"""The benchmark of methods, on the model that knows two toy languages."""

import json
from importlib import import_module

import pytest
from toy_languages import BLOCK, NUMBERS, WORDS
from typer.testing import CliRunner

from hf_untangle.bench import Cell, MethodsBenchConfig, MethodsBenchRecord, bench_methods
from hf_untangle.bench.methods_config import Contender
from hf_untangle.bench.methods_page import methods_page
from hf_untangle.bench.methods_record import Point
from hf_untangle.bench.methods_table import columns, methods_markdown, methods_rows, recovered
from hf_untangle.bench.peak_memory import peak_memory
from hf_untangle.cli.main import app
from hf_untangle.data.corpora import corpus
from hf_untangle.data.splits import part_of
from hf_untangle.errors import ConfigError
from hf_untangle.methods.automatic import PRUNING_ALONE

SMALL = {
    "methods": ("prune", "graddiff@neurons"),
    "disruption_budget": 0.5,
    "retain_budget": 0.5,
    "trials": (100.0,),  # the toy model is small, and learns fast
    "steps": 4,
    "prune_steps": 1,
    "prune_fraction": 0.001,
    "tokens": 512,
    "evaluation_tokens": 256,
    "gradient_tokens": 256,
    "block_size": BLOCK,
    "attacks": ("relearn",),
    "relearning_steps": 2,
    "relearning_rates": (1e-3,),
}
pytestmark = pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning")


@pytest.fixture
def bench(project, monkeypatch):
    """Run the benchmark in the folder of the toy model; prose that no method is told of is `words` once more."""
    monkeypatch.chdir(project)

    def run(**settings):
        also = {"other": "words.jsonl"}
        return bench_methods("toy", "numbers.jsonl", "words.jsonl", also=also, progress=False, **SMALL | settings)

    return run


def test_every_method_is_measured_and_attacked_alike_and_a_finished_cell_is_read(bench, monkeypatch):
    record = bench()
    assert [cell.method for cell in record.cells] == ["prune", "graddiff@neurons"]
    for cell in record.cells:
        assert cell.forget is not None and cell.retain is not None, cell.note
        assert cell.forget.drop > cell.retain.drop
        assert cell.forget.drop > cell.random_drop
        assert cell.retain.disruption > 0 and cell.also["other"].disruption > 0
        gone = columns(record)["still gone"][0](cell)
        assert gone == pytest.approx(cell.forget.drop * (1 - recovered(cell, "relearn")))
        assert cell.path and cell.seconds > 0 and cell.trials == 1
    assert record.cells[0].forget.before == record.cells[1].forget.before
    with monkeypatch.context() as patch:
        patch.setattr(import_module("hf_untangle.bench.methods"), "unlearn", None)
        assert bench().cells == record.cells
    page, table = methods_page(record), methods_markdown(record)
    for row in methods_rows(record):
        assert f"| {' | '.join(row)} |" in table and len(row) == 1 + len(columns(record))
    assert "graddiff@neurons" in page and "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")
    assert MethodsBenchRecord.model_validate_json(record.model_dump_json()) == record


def test_a_cell_of_another_version_or_of_other_text_to_learn_from_is_not_read_again(tokenizer, taught, monkeypatch):
    bench = import_module("hf_untangle.bench.methods")
    config, more = (MethodsBenchConfig.resolve(**SMALL | changed) for changed in ({}, {"steps": 5}))

    def key(forget=NUMBERS, retain=WORDS, config=config):
        return bench._key(
            bench._Task("toy", "float32", {}, corpus(forget), corpus(retain), config, False), taught, tokenizer, {}
        )

    train = next(row for row, text in enumerate(NUMBERS) if part_of(text) == "train")
    others = {key(NUMBERS[:train] + NUMBERS[train + 1 :]), key(retain=WORDS[::-1]), key(config=more)}
    monkeypatch.setattr(bench, "version", lambda _: "9.9")
    others.add(key())
    monkeypatch.undo()
    assert len(others) == 4 and key() == key() and key() not in others


def test_a_method_without_a_step_inside_the_budget_is_a_row_that_says_why(bench):
    (cell,) = bench(methods=("graddiff",), disruption_budget=1e-9, retain_budget=0.0).cells
    assert cell.forget is None and "budget" in cell.note


def test_the_disruption_at_a_level_lies_between_two_steps():
    points = (
        Point(disruption=0.1, forget_drop=0.4, retain_drop=0.0),
        Point(disruption=0.3, forget_drop=0.8, retain_drop=0.0),
    )
    cell = Cell(method="npo", seed=0, path=points, seconds=1)
    assert cell.disruption_at(0.2) == pytest.approx(0.05)
    assert cell.disruption_at(0.6) == pytest.approx(0.2)
    assert cell.disruption_at(0.9) is None


def test_contenders_are_methods_joined_with_what_they_write():
    assert Contender.of("prune+npo@neurons") == Contender(("prune", "npo"), "neurons")
    assert Contender.of("prune").only_prunes and not Contender.of("npo").only_prunes


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (("prone",), "method must be one of"),
        (("npo@nowhere",), "must be one of all, lora"),
        (("prune@lora",), "pruning alone and `auto` must have no `@`"),
        (("auto@lora",), "pruning alone and `auto` must have no `@`"),
        (("npo", "npo"), "must name every method once"),
    ],
)
def test_methods_that_cannot_take_part_are_refused(methods, message):
    with pytest.raises(ConfigError, match=message):
        MethodsBenchConfig.resolve(methods=methods)


def test_peak_memory_is_that_of_the_block():
    with peak_memory() as before:
        pass
    with peak_memory() as peak:
        held = bytearray(100_000_000)
    if peak.bytes is None or before.bytes is None:
        pytest.skip("this system does not tell")
    assert peak.bytes - before.bytes > 0.5 * len(held)


@pytest.mark.usefixtures("bench")
def test_the_command_writes_record_table_and_page(tmp_path):
    options = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    where = ["--forget", "numbers.jsonl", "--retain", "words.jsonl", "-o", str(tmp_path / "out")]
    options += ["--set=methods=[graddiff]", "--set=attacks=[quantize]", "--set=also.other=words.jsonl", "--json"]
    result = CliRunner().invoke(app, ["bench", "methods", "--model", "toy", *where, *options])
    assert result.exit_code == 0, result.output
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {"untangle.json", "methods.md", "report.html"}


def test_auto_takes_part_as_it_is():
    settings = MethodsBenchConfig().of_run(Contender.of("auto"), seed=1)
    assert settings["seed"] == 1 and settings["disruption_budget"] == 0.05
    assert not set(settings) & (PRUNING_ALONE | {"steps", "step_rows", "search"})
