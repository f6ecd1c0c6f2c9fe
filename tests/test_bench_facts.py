"""The benchmark of facts, on a tiny model that learns a few of them."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel
from typer.testing import CliRunner

from hf_untangle.bench import FactsBenchConfig, bench_facts
from hf_untangle.bench.facts import GOLD, ORIGINAL, compared
from hf_untangle.bench.facts_models import Base, fact_blocks, tuned
from hf_untangle.bench.facts_record import FactsBenchRecord, FactsRow, FactsScores
from hf_untangle.bench.facts_rows import RANDOM, RETAIN_ONLY
from hf_untangle.bench.facts_scores import Examiner
from hf_untangle.bench.facts_training import _batches, answer_loss, train_on_answers_
from hf_untangle.bench.question_benchmarks import spread
from hf_untangle.cli.main import app
from hf_untangle.errors import ConfigError, MissingExtraError, StatisticsError

SMALL = {
    "forget": 2,
    "retain": 2,
    "neighbors": 1,
    "unseen": 2,
    "epochs": 2,
    "methods": ("prune", "npo"),
    "steps": 2,
    "questions": 2,
    "prompts": 1,
    "judged_tokens": 300,
    "prune_fraction": 0.1,
    "relearning_steps": 2,
    "retain_budget": 1.0,
    "disruption_budget": 50.0,
}


@pytest.fixture
def folder(tiny_model, tokenizer, tmp_path) -> str:
    """A tiny model as a checkpoint, whose positions reach over a question and its answer in bytes."""
    model = tiny_model("llama", max_position_embeddings=256)
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>", pad_token="<pad>", model_max_length=256
    )
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


@pytest.fixture
def record(folder) -> FactsBenchRecord:
    return bench_facts(folder, progress=False, **SMALL)


def test_every_model_of_the_table_is_measured_beside_original_and_gold(record, folder, cache, monkeypatch):
    names = [one.row.name for one in record.results]
    assert names == [ORIGINAL, GOLD, "prune", "npo", *([RANDOM] if RANDOM in names else []), RETAIN_ONLY]
    found = {one.row.name: one for one in record.results}
    assert found[GOLD].forget_quality == 1.0 and found[ORIGINAL].utility_kept in (None, pytest.approx(1.0))
    assert len(found[GOLD].row.scores.ratios) == 10 and len(found[GOLD].row.scores.kept) == 9
    assert found[GOLD].row.relearned is not None
    assert json.loads(record.model_dump_json())["settings"]["epochs"] == 2

    # Everything is in the cache now: nothing is trained or measured again.
    monkeypatch.setattr("hf_untangle.bench.facts_models.train_on_answers_", None)
    monkeypatch.setattr(Examiner, "scores", None)
    assert bench_facts(folder, progress=False, **SMALL).results == record.results
    for row in (cache / "bench").glob("facts-rows-*/gold.json"):
        row.write_text("{}")
    with pytest.raises(TypeError):  # A damaged row is measured again.
        bench_facts(folder, progress=False, **SMALL)


def test_gold_is_trained_on_all_but_what_is_forgotten(folder, monkeypatch):
    seen = []
    monkeypatch.setattr("hf_untangle.bench.facts_models.train_on_answers_", lambda _, blocks, **__: seen.append(blocks))
    config = FactsBenchConfig(**SMALL)
    facts, base = config.facts(), Base.of(folder)
    for which in (ORIGINAL, GOLD):
        tuned(which, base, facts, config, progress=False)
    assert [len(blocks.input_ids) for blocks in seen] == [25, 15]


def test_training_lowers_the_loss_of_answers_and_leaves_an_ordinary_model(tiny_model, tokenizer):
    model = tiny_model("llama", max_position_embeddings=256)
    blocks = fact_blocks(FactsBenchConfig(**SMALL).facts().retain, _long(tokenizer))
    before = float(answer_loss(model, blocks).detach())
    train_on_answers_(model, blocks, steps=4, learning_rate=1e-2, batch_size=5, seed=0, what="", progress=False)
    assert float(answer_loss(model, blocks).detach()) < before - 0.1
    assert not model.training and all(one.grad is None for one in model.parameters())


def test_the_loss_is_that_of_transformers(tiny_model, tokenizer):
    model: PreTrainedModel = tiny_model("llama", max_position_embeddings=256)
    blocks = fact_blocks(FactsBenchConfig(**SMALL).facts().retain, _long(tokenizer))
    with torch.no_grad():
        expected = model(**blocks.inputs(torch.device("cpu")), labels=blocks.labels()).loss
        torch.testing.assert_close(answer_loss(model, blocks), expected)


def test_a_loss_that_is_not_finite_ends_the_training(tiny_model, tokenizer):
    model = tiny_model("llama", max_position_embeddings=256)
    model.lm_head.weight.data.fill_(float("nan"))
    blocks = fact_blocks(FactsBenchConfig(**SMALL).facts().retain, _long(tokenizer))
    with pytest.raises(StatisticsError, match="The loss must be finite, got nan"):
        train_on_answers_(model, blocks, steps=1, learning_rate=1e-2, batch_size=5, seed=0, what="", progress=False)


def test_all_rows_come_once_before_any_comes_again(tokenizer):
    blocks = fact_blocks(FactsBenchConfig(**SMALL).facts().known, _long(tokenizer))
    rows = [int(row) for batch in _batches(blocks, 14, 4, seed=1) for row in batch]
    assert sorted(rows[:25]) == sorted(rows[25:]) == list(range(25))
    assert rows[:25] != rows[25:]


def test_a_row_that_found_nothing_inside_the_budget_has_no_scores():
    scores = FactsScores(
        probability=0.5,
        paraphrase_probability=0.5,
        cloze_probability=0.5,
        extraction_strength=0.5,
        rouge=0.5,
        truth_ratio=0.5,
        ratios=(0.1, 0.2),
        min_k_auc=0.9,
        kept={"retain": 0.5},
        utility=0.5,
    )
    gold = scores.model_copy(update={"ratios": (0.8, 0.9), "min_k_auc": 0.5})
    made = {ORIGINAL: scores, GOLD: gold, "npo": None}
    original, best, nothing = compared([FactsRow(name=name, scores=one, note="no") for name, one in made.items()])
    assert original.forget_quality == pytest.approx(1 / 3) and original.privacy_leakage == pytest.approx(-80)
    assert (best.forget_quality, best.utility_kept, best.privacy_leakage) == (1.0, 1.0, 0.0)
    assert nothing.forget_quality is None and nothing.row.note == "no"


def test_facts_are_spread_over_all_kinds():
    rows = [{"n": number} for number in range(10)]
    assert [row["n"] for row in spread(rows, 4)] == [0, 2, 5, 7]
    assert spread(rows, 99) == rows


def test_settings_are_checked_before_anything_long_begins(monkeypatch):
    with pytest.raises(ConfigError, match="method must be one of .*, got `npoo`"):
        bench_facts("smollm2", methods=["prune+npoo"])
    with pytest.raises(ConfigError, match="config must be"):
        bench_facts("smollm2", config="quickest")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install rouge-score"):
        bench_facts("smollm2")


def test_quick_is_smaller_in_everything_that_costs_time():
    quick, default = FactsBenchConfig.presets()["quick"], FactsBenchConfig()
    for field in ("forget", "retain", "neighbors", "unseen", "steps", "questions", "prompts", "relearning_steps"):
        assert getattr(quick, field) < getattr(default, field)
    assert replace(quick.facts()) == quick.facts()


def _long(tokenizer):
    """The tokenizer of bytes, for rows of 256 of them."""
    return type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>", pad_token="<pad>", model_max_length=256
    )


def test_the_command_writes_the_record_and_a_table(folder, tmp_path):
    out = tmp_path / "out"
    options = [f"{name}={list(value) if isinstance(value, tuple) else value}" for name, value in SMALL.items()]
    given = ["bench", "facts", "--model", folder, "--output", str(out), "--quiet", *(f"--set={option}" for option in options)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    record = FactsBenchRecord.model_validate_json((out / "untangle.json").read_bytes())
    lines = (out / "facts.md").read_text().splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[4 : 4 + len(record.results)]] == [
        result.row.name for result in record.results
    ]
    assert any("of retain top-1" in line for line in lines)
