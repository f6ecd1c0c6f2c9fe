"""The one call: what it changes, what it gives back, what it saves, and what it refuses."""

import json
from copy import deepcopy
from importlib import import_module
from pathlib import Path

import pytest
import torch
from toy_languages import NUMBERS, TOY_CONFIG, WORDS
from transformers import AutoModelForCausalLM, AutoTokenizer

import hf_untangle as untangle
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.corpora import corpus
from hf_untangle.data.held_out import held_out_blocks
from hf_untangle.errors import (
    ArchitectureError,
    BudgetError,
    ConfigError,
    CorpusError,
    MaskError,
    OutputError,
    StatisticsError,
    TokenizerError,
)
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.folders import MARKER
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.removal import removed_parameters
from hf_untangle.pruning import controls, iterative
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.model_card import model_card
from hf_untangle.reporting.page import report_page

PROMPTS = ["12 34", "the cat"]

unlearning = import_module("hf_untangle.unlearn")


@pytest.fixture
def call(toy_model, tokenizer):
    """Unlearn numbers from the toy model, unless told otherwise."""

    def unlearn(forget=NUMBERS, retain=WORDS, **settings):
        return untangle.unlearn(
            toy_model, forget, retain, **{"tokenizer": tokenizer, "config": TOY_CONFIG, "progress": False} | settings
        )

    return unlearn


@pytest.fixture(scope="module")
def result(taught, tokenizer):
    """A whole run on a copy of the toy model."""
    model = deepcopy(taught)
    return untangle.unlearn(model, NUMBERS, WORDS, tokenizer=tokenizer, config=TOY_CONFIG, prompts=PROMPTS, progress=False)


@pytest.fixture(scope="module")
def saved(result, tmp_path_factory) -> Path:
    """The run, saved."""
    return result.save_pretrained(tmp_path_factory.mktemp("results") / "toy")


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(40)[None]).logits


def parse_strictly(text: str):
    """Read JSON, and refuse the constants that are none: NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_model_has_unlearned_when_the_call_returns(result, taught, finished):
    assert result.mask == finished.mask
    with untangle.masked(deepcopy(taught), finished.mask) as expected:
        torch.testing.assert_close(logits(result.model), logits(expected))


def test_the_model_is_changed_in_place(call, toy_model):
    result = call(steps=1)
    assert result.model is toy_model
    assert result.record.parameters_removed == sum(int((one == 0).sum()) for one in toy_model.parameters()) > 0


def test_the_history_is_that_of_the_loop(result, finished):
    assert result.history.chosen == finished.history.chosen
    assert [step.scores for step in result.history.steps] == [step.scores for step in finished.history.steps]
    assert result.mask_path == finished.masks


def test_the_record_counts_what_was_removed(result, taught):
    groups = untangle.neuron_groups(taught)
    assert result.record.parameters == taught.num_parameters()
    assert result.record.parameters_removed == removed_parameters(taught, result.mask, groups)
    assert sum(group.removed for group in result.record.groups) == result.mask.removed()
    shared = [group.shares_rows_with_kept(result.mask[group.name]).sum() for group in groups]
    assert result.record.still_computed == sum(shared) > 0


def test_the_result_is_measured_on_parts_that_nothing_was_chosen_by(result, taught, tokenizer):
    fingerprints = {record["fingerprint"] for record in result.record.corpora.values()}
    assert list(result.record.corpora) == [
        f"{use}_{part}" for part in ("train", "validation", "test") for use in ("forget", "retain")
    ]
    assert len(fingerprints) == 6
    for use, texts in (("forget", NUMBERS), ("retain", WORDS)):
        blocks = held_out_blocks(corpus(texts), tokenizer, tokens=1024, part="test", block_size=32).first
        for scores, model in ((result.record.test.before, taught), (result.record.test.after, result.model)):
            metrics = next_token_metrics(model, blocks, progress=False)
            assert getattr(scores, use).top1 == pytest.approx(metrics.top1)
            assert getattr(scores, use).loss == pytest.approx(metrics.loss, rel=1e-4)


def test_on_the_test_parts_too_forget_falls_retain_stays_and_a_random_mask_does_neither(result):
    test = result.record.test
    assert test.after.forget_drop(test.before) > 0.4
    assert test.after.retain_drop(test.before) < 0.1
    assert test.controls[0].selectivity(test.before) < test.after.selectivity(test.before) / 2


def test_no_control_of_equal_size_does_what_the_result_does(result):
    test = result.record.test
    assert len(set(test.controls)) == 3
    for control in (*test.controls, test.magnitude):
        assert control.selectivity(test.before) < test.after.selectivity(test.before) / 2
    # What the retain corpus leaves idle is in part what the forget corpus needs, so this one is harder to beat.
    assert test.retain_only.selectivity(test.before) < test.after.selectivity(test.before) - 0.1


def test_more_metrics_are_measured_when_asked_for_and_shown(result, taught):
    small = {"tokens": 256, "block_size": 32, "progress": False}
    asked = result.evaluate(["extraction_strength", "perplexity"], original=taught, **small).record
    (found,) = asked.metrics
    assert found.forget_before and found.forget["perplexity"] > 1.5 * found.forget_before["perplexity"]
    assert found.forget["extraction_strength"] <= found.forget_before["extraction_strength"]
    assert found.settings["tokens"] == 256
    assert UnlearnRecord.model_validate_json(asked.model_dump_json()) == asked
    for text in (str(model_card(asked)), report_page(asked, {})):
        assert "extraction strength" in text
    with pytest.raises(ConfigError, match="A metric must be one of"):
        result.evaluate(["bleu"])


def test_without_controls_none_is_measured(call):
    test = call(steps=1, controls=0).record.test
    assert (test.controls, test.magnitude, test.retain_only) == ((), None, None)


def test_prompts_are_continued_before_and_after(result):
    continuations = result.record.continuations
    assert [one.prompt for one in continuations] == PROMPTS
    assert continuations[0].before != continuations[0].after


def test_without_prompts_the_beginnings_of_held_out_text_are_continued(call, tokenizer):
    blocks = [token_blocks(texts, tokenizer, part="test", tokens=32, block_size=32) for texts in (NUMBERS, WORDS)]
    prompts = [one.prompt for one in call(steps=1).record.continuations]
    assert prompts == [tokenizer.decode(each.input_ids[0, :24], skip_special_tokens=True) for each in blocks]


def test_statistics_are_those_of_the_original_model(result, finished):
    for name, moments in result.forget.items():
        assert torch.equal(moments.absolute, finished.forget[name].absolute)
    assert result.retain.corpora == (result.record.corpora["retain_train"],)


def test_the_same_call_gives_the_same_result(result, call):
    again = call(prompts=PROMPTS)
    assert again.mask == result.mask
    assert again.record.test == result.record.test
    assert again.record.continuations == result.record.continuations


def test_a_preset_may_be_named_and_changed(call):
    small = {"tokens": 2048, "evaluation_tokens": 1024, "block_size": 32, "batch_size": 16, "steps": 1, "packed": True}
    config = call(config="paper", **small, ffn_fraction=0.1, attention_fraction=0.05).record.config
    assert (config.importance, config.ffn_eps, config.candidates) == ("abs", "0.001", 1)
    assert (config.steps, config.ffn_fraction) == (1, 0.1)


def test_unlearning_works_where_gradients_are_switched_off(call, result):
    with torch.no_grad():
        assert call().mask == result.mask


def test_a_plain_from_pretrained_loads_the_result(saved, result, tokenizer):
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(saved)), logits(result.model))
    assert AutoTokenizer.from_pretrained(saved)("12 cat")["input_ids"] == tokenizer("12 cat")["input_ids"]


def test_without_being_asked_nothing_is_kept_that_could_undo_it(saved, result):
    assert result.removed is None and not (saved / "removed.safetensors").exists()


def test_mask_statistics_and_record_are_saved_beside_the_checkpoint(saved, result):
    assert untangle.NeuronMask.load(saved / "mask.safetensors") == result.mask
    assert (
        untangle.statistics.ActivationStatistics.load(saved / "statistics-forget.safetensors").corpora == result.forget.corpora
    )
    assert (
        untangle.statistics.ActivationStatistics.load(saved / "statistics-retain.safetensors").corpora == result.retain.corpora
    )
    assert UnlearnRecord.model_validate_json((saved / MARKER).read_text()) == result.record
    assert {"README.md", "report.html", "config.json", "model.safetensors"} <= {path.name for path in saved.iterdir()}


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_the_saved_record_is_strict_json_that_reads_back(result, preset):
    record = result.record.model_copy(update={"config": UnlearnConfig.resolve(preset)})
    parse_strictly(record.model_dump_json())
    assert UnlearnRecord.model_validate_json(record.model_dump_json()) == record


@pytest.mark.usefixtures("no_report")
def test_a_result_replaces_a_result_but_nothing_else(result, tmp_path):
    result.save_pretrained(tmp_path / "out")
    (tmp_path / "out" / "leftover").write_text("")
    result.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "leftover").exists(), "files of the user's stay"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(OutputError, match="was not written by hf_untangle"):
        result.save_pretrained(tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


@pytest.mark.usefixtures("no_report")
def test_when_the_disk_is_full_the_old_result_stays(result, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    result.save_pretrained(tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    monkeypatch.setattr(type(result.retain), "save", full)
    with pytest.raises(OutputError, match="No space left on device.*What was there before is untouched"):
        result.save_pretrained(tmp_path / "out")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


INTERRUPTIONS = [(iterative, "gather"), (iterative, "remove_next"), (controls, "random_like"), (unlearning, "continuations")]


@pytest.mark.parametrize(("module", "function"), INTERRUPTIONS)
def test_an_interruption_leaves_the_model_as_it_was(call, toy_model, untouched, monkeypatch, module, function):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, function, interrupted)
    with untouched(toy_model), pytest.raises(KeyboardInterrupt):
        call()


def test_after_an_interruption_at_the_very_end_no_step_is_done_again(call, result, cache, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(unlearning, "continuations", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        call()
    with monkeypatch.context() as patch:
        patch.setattr(iterative, "remove_next", None)
        assert call().mask == result.mask
    assert not list(cache.rglob("step-*")), "and the journal goes with the end of the call"


def test_a_broken_budget_leaves_the_model_as_it_was(call, toy_model, untouched):
    with untouched(toy_model), pytest.raises(BudgetError, match="Nothing was removed. Allow a larger retain_budget"):
        call(ffn_fraction=0.6, attention_fraction=0.5, retain_budget=0.0)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"retain": NUMBERS}, CorpusError, "must differ, but both are `strings .forget.` .*Choose another retain corpus"),
        ({"forget": "cod"}, CorpusError, "no corpus named `cod`.*Did you mean code"),
        ({"forget": ["too short"]}, CorpusError, "part of corpus `strings .forget.` has .* tokens, too few for one block"),
        ({"forget": "missing.txt"}, CorpusError, "There is no file or folder `missing.txt`"),
        ({"tokenizer": None}, TokenizerError, "tokenizer"),
        ({"config": "papr"}, ConfigError, "config must be a UnlearnConfig or one of default, .*paper, got 'papr' .did you"),
        ({"stepz": 3}, ConfigError, "There is no setting `stepz` .did you mean `steps`"),
        ({"ffn_fraction": -0.1}, ConfigError, "`ffn_fraction`: input should be greater than or equal to 0"),
        ({"ffn_fraction": 2}, ConfigError, "`ffn_fraction`: input should be less than or equal to 1"),
        ({"ffn_fraction": 0, "attention_fraction": 0}, ConfigError, "nothing would be removed"),
    ],
)
def test_bad_input_is_an_error_that_says_what_to_do(call, toy_model, untouched, wrong, kind, message):
    with untouched(toy_model), pytest.raises(kind, match=message):
        call(**wrong)


def test_a_tokenizer_of_another_model_is_refused(call, tokenizer):
    larger = deepcopy(tokenizer)
    larger.add_tokens(["one", "more"])
    with pytest.raises(TokenizerError, match="token ids up to 259, but the model embeds only 258"):
        call(tokenizer=larger)


def test_a_broken_model_is_refused(call, toy_model):
    with torch.no_grad():
        toy_model.model.layers[1].mlp.up_proj.weight[3] = torch.nan
    with pytest.raises(StatisticsError, match="The loss on strings.* must be a number, but it is NaN"):
        call()


def test_a_model_on_the_meta_device_is_refused(tokenizer, toy_model):
    with pytest.raises(ArchitectureError, match="on the meta device"):
        untangle.unlearn(toy_model.to("meta"), NUMBERS, WORDS, tokenizer=tokenizer)


def test_a_quantized_model_is_refused_before_anything_long_begins(call, toy_model, monkeypatch):
    monkeypatch.setattr(unlearning, "search_mask", None)
    toy_model.model.layers[1].mlp.up_proj.weight.quant_state = "4 bit"
    with pytest.raises(MaskError, match="must be in floating point to be removed, but they are quantized. Try the mask with"):
        call()


def test_a_fraction_that_rounds_to_no_neuron_is_refused(call, toy_model, untouched):
    with untouched(toy_model), pytest.raises(ConfigError, match="must remove at least one neuron"):
        call(ffn_fraction=0.001, attention_fraction=0, steps=1)


@pytest.mark.parametrize("ablation", ["mean", "mode"])
def test_what_removed_neurons_read_ends_up_in_biases(call, toy_model, taught, tmp_path, ablation):
    result = call(steps=1, ablation=ablation, importance="wanda", candidates=1.0)
    assert any(bias.any() for name, bias in toy_model.named_parameters() if name.endswith("down_proj.bias"))
    with pytest.raises(MaskError, match=f"the run of this mask held them at ablation='{ablation}'"):
        result.mask.to_adapter(tmp_path / "adapter")
    means = mean_ablation(result.retain)
    if ablation == "mean":
        with untangle.masked(taught, result.mask, constants=means):
            torch.testing.assert_close(logits(toy_model), logits(taught), rtol=1e-4, atol=1e-4)
    result.save_pretrained(tmp_path / "out")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), logits(toy_model))


def test_a_fill_that_no_bias_can_hold_is_refused_before_the_search(tiny_model, tokenizer, untouched):
    model = tiny_model("qwen2")
    with untouched(model), pytest.raises(ArchitectureError, match="must have a bias"):
        untangle.unlearn(model, NUMBERS, WORDS, tokenizer=tokenizer, ablation="mean", progress=False)
