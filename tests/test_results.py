"""Results: one life for both of them, and a record that cannot speak of other weights."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from records import a_record, an_attack
from toy_languages import NUMBERS, WORDS

import hf_untangle as untangle
from hf_untangle.errors import CompactionError, ConfigError, MaskError
from hf_untangle.folders import MARKER
from hf_untangle.records.base import FORMAT
from hf_untangle.records.unlearning import RepairRecord, UnlearnRecord
from hf_untangle.reporting.model_card import model_card
from hf_untangle.results import PruneResult, UnlearnResult, read_result
from hf_untangle.statistics.fingerprint import weights_fingerprint

REPAIR = {"steps": 2, "step_tokens": 64, "block_size": 32, "batch_size": 2, "method": "full", "progress": False}
PRUNE = {"tokens": 2048, "evaluation_tokens": 512, "block_size": 32, "batch_size": 16, "progress": False}
CORPORA = {"forget": NUMBERS, "retain": WORDS, "data": WORDS}


@pytest.fixture
def forgetful(unlearned, no_report) -> UnlearnResult:
    """A result of unlearning that a test may change."""
    return replace(unlearned, model=deepcopy(unlearned.model))


@pytest.fixture
def pruned(toy_model, tokenizer) -> PruneResult:
    """A result of a compression."""
    return untangle.prune(toy_model, WORDS, tokenizer=tokenizer, ratio=0.25, **PRUNE)


@pytest.fixture(params=["unlearned", "pruned"])
def result(request):
    """Either."""
    return request.getfixturevalue({"unlearned": "forgetful", "pruned": "pruned"}[request.param])


def nudge(model) -> None:
    with torch.no_grad():
        next(model.parameters()).view(-1)[7] += 1e-3


def test_a_repair_stands_in_the_record_though_nobody_keeps_what_it_returns(result):
    result.repair(**REPAIR)
    (repair,) = result.record.repairs
    assert repair.settings["steps"] == 2
    assert result.record.weights == weights_fingerprint(result.model)
    assert result.record.final == repair.after


def test_a_compression_is_repaired_without_a_forget_corpus(pruned):
    after = pruned.repair(**REPAIR).record.repairs[0].after
    assert after.tokens == pruned.record.after.tokens


def test_what_was_measured_of_the_weights_before_a_repair_leaves_the_record(forgetful):
    forgetful.evaluate(["perplexity"], tokens=256, block_size=32, progress=False)
    forgetful.record = forgetful.record.model_copy(update={"attacks": (an_attack(),)})
    assert forgetful.record.metrics and forgetful.record.attacks
    forgetful.repair(**REPAIR)
    assert not forgetful.record.metrics and not forgetful.record.attacks


def test_weights_that_the_record_does_not_speak_of_are_neither_saved_nor_pushed(result, tmp_path):
    nudge(result.model)
    for share, place in ((result.save_pretrained, tmp_path / "out"), (result.push_to_hub, "me/out")):
        with pytest.raises(ConfigError, match="weights of the model must be those that its record speaks of"):
            share(place)
    assert not (tmp_path / "out").exists()


def test_a_restored_model_is_not_saved_as_if_it_had_forgotten(forgetful, tmp_path):
    assert forgetful.restore() is forgetful.model
    with pytest.raises(ConfigError, match="must be those that its record speaks of"):
        forgetful.save_pretrained(tmp_path / "out")


def test_a_result_is_read_back_and_goes_on_where_it_was(result, tmp_path):
    result.save_pretrained(tmp_path / "out")
    again = read_result(tmp_path / "out", corpora=CORPORA)
    assert type(again) is type(result) and again.record == result.record and again.mask == result.mask
    assert weights_fingerprint(again.model) == again.record.weights
    again.repair(**REPAIR)
    again.save_pretrained(tmp_path / "repaired")
    assert len(type(result).from_pretrained(tmp_path / "repaired", corpora=CORPORA).record.repairs) == 1


def test_a_result_of_another_function_is_refused(pruned, tmp_path):
    pruned.save_pretrained(tmp_path / "out")
    with pytest.raises(ConfigError, match="must hold the record of a run .UnlearnRecord."):
        UnlearnResult.from_pretrained(tmp_path / "out", corpora=CORPORA)


def test_the_removed_weights_of_a_compression_come_back_too(toy_model, taught, tokenizer):
    result = untangle.prune(toy_model, WORDS, tokenizer=tokenizer, ratio=0.25, keep_removed=True, **PRUNE)
    assert weights_fingerprint(toy_model) != weights_fingerprint(taught)
    result.restore()
    assert weights_fingerprint(toy_model) == weights_fingerprint(taught) == result.record.original_weights


def test_a_repaired_result_is_no_adapter_and_any_other_is(result, tmp_path):
    result.to_adapter(tmp_path / "adapter")
    assert untangle.NeuronMask.from_adapter(tmp_path / "adapter") == result.mask
    result.repair(**REPAIR)
    with pytest.raises(MaskError, match="this model was repaired after its neurons were removed"):
        result.to_adapter(tmp_path / "other")


def test_a_model_whose_neurons_are_out_already_is_not_compacted_again(toy_model, tokenizer):
    result = untangle.prune(toy_model, WORDS, tokenizer=tokenizer, ratio=0.25, compact="uniform", **PRUNE)
    with pytest.raises(CompactionError, match="taken out of the tensors once, but `compact='uniform'` of this run did it"):
        result.compact()
    assert result.repair(**REPAIR).record.repairs


def test_more_of_a_compression_is_measured_for_its_card(pruned, tmp_path):
    pruned.evaluate(["perplexity"], tokens=256, block_size=32, progress=False)
    pruned.save_pretrained(tmp_path / "out")
    (measured,) = pruned.record.metrics
    assert f"perplexity {measured.values['perplexity']:.4g}" in (tmp_path / "out" / "README.md").read_text()


def test_the_first_sentence_of_a_card_tells_the_drop_after_the_repair_and_not_before_it():
    record = a_record()
    before = record.test.after
    after = before.model_copy(update={"forget": record.test.before.forget, "retain": record.test.before.retain})
    repair = RepairRecord(
        settings={"method": "full", "steps": 3, "distill": 0.0},
        corpus=record.corpora["retain_train"],
        original=None,
        tokens=64,
        parameters=10,
        before=before,
        after=after,
        seconds=1.0,
    )
    first = [model_card(one).text.split("\n\n")[1] for one in (record, record.model_copy(update={"repairs": (repair,)}))]
    assert first[0] != first[1]
    assert "0.0%" in first[1] or "0%" in first[1]


def test_a_record_of_the_first_format_is_read_with_the_words_of_the_second(forgetful, tmp_path):
    forgetful.save_pretrained(tmp_path / "out")
    marker = tmp_path / "out" / MARKER
    content = json.loads(marker.read_text())
    del content["format"]
    content["config"]["fill"] = content["config"].pop("ablation")
    marker.write_text(json.dumps(content))
    assert UnlearnResult.from_pretrained(tmp_path / "out", corpora=CORPORA).record == forgetful.record


@pytest.mark.parametrize(
    ("written", "message"),
    [(FORMAT + 1, f"got {FORMAT + 1}: install a newer hf_untangle"), (0, "at least 1, got 0")],
)
def test_a_record_of_a_newer_format_is_refused(forgetful, tmp_path, written, message):
    forgetful.save_pretrained(tmp_path / "out")
    marker = tmp_path / "out" / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": written}))
    with pytest.raises(ConfigError, match=message):
        UnlearnResult.from_pretrained(tmp_path / "out", corpora=CORPORA)


def test_a_record_says_which_weights_it_began_and_ended_with(forgetful, taught):
    assert forgetful.record.original_weights == weights_fingerprint(taught)
    assert forgetful.record.weights == weights_fingerprint(forgetful.model)
    assert UnlearnRecord.model_validate_json(forgetful.record.model_dump_json()) == forgetful.record


def test_a_fingerprint_sees_every_bit_and_every_place():
    model = torch.nn.Linear(37, 53)
    model.name_or_path = ""
    first = weights_fingerprint(model)
    for change in (lambda w: w[5, 5].nextafter_(torch.tensor(9.0)), lambda w: w[[0, 1]].copy_(w[[1, 0]])):
        other = deepcopy(model)
        with torch.no_grad():
            changed = change(other.weight.data)
            if changed.shape == (2, 37):
                other.weight.data[[0, 1]] = changed
        assert weights_fingerprint(other) != first
    assert weights_fingerprint(deepcopy(model)) == first
