"""Attacks: every one is run on copies, beside the original and random masks, and loses nothing where it ends early."""

import re
import time
from copy import deepcopy

import pytest
import torch
from toy_languages import BLOCK, NUMBERS, TOY_CONFIG, WORDS

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.attacks import run
from hf_untangle.attacks.fine_tuning import due_steps
from hf_untangle.attacks.prompting import NEIGHBORS, prompted
from hf_untangle.attacks.subject import scene_of
from hf_untangle.configs.attack import NAMES, QUICK, AttackConfig
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.logit_lens import layer_metrics
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.select import random_like
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.verdicts import verdict_sentences, verdicts

SMALL = {
    "seeds": 2,
    "samples": 8,
    "steps": 3,
    "step_tokens": 256,
    "points": 2,
    "learning_rate": 5e-3,
    "learning_rates": [5e-3],
    "relearn_methods": ["lora"],
    "warmups": [0.1],
    "shots": (1, 2),
    "block_size": BLOCK,
    "batch_size": 16,
    "evaluation_tokens": 512,
}
pytestmark = pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning")


@pytest.fixture(scope="module")
def result(taught, tokenizer):
    """The toy model without most of its numbers."""
    config = TOY_CONFIG.with_settings(steps=2, controls=1)
    return untangle.unlearn(deepcopy(taught), NUMBERS, WORDS, tokenizer=tokenizer, config=config, prompts=[], progress=False)


@pytest.fixture(scope="module")
def attack(result, taught):
    """Attack the toy model, unless told otherwise."""

    def call(*attacks, **settings):
        defaults = {"original": taught, "progress": False, "attacks": attacks or NAMES}
        return untangle.attack(result, **defaults | SMALL | settings).record

    return call


@pytest.fixture(scope="module")
def record(attack, result, taught, untouched):
    """All attacks, which leave the models as they were."""
    with untouched(result.model), untouched(taught):
        return attack()


@pytest.fixture
def of(record):
    """The outcome of one attack."""
    return {outcome.attack: outcome for outcome in record.outcomes}.__getitem__


def top1(readings, who, condition=None) -> list[float]:
    return [one.forget.top1 for one in readings if one.model == who and condition in (None, one.condition)]


def test_every_attack_comes_to_its_end(record):
    assert [outcome.attack for outcome in record.outcomes] == list(NAMES) == list(run.ATTACKS)
    assert [(outcome.error, outcome.stopped) for outcome in record.outcomes] == [(None, False)] * len(NAMES)
    assert type(record).model_validate_json(record.model_dump_json()) == record


def test_the_models_as_they_are_are_the_result_the_original_and_random_masks_of_its_size(record, result, taught):
    blocks = result.held_out.forget.first(512 // BLOCK)
    assert [(one.model, one.seed) for one in record.base] == [
        ("unlearned", 0),
        ("original", 0),
        ("random mask", 0),
        ("random mask", 1),
    ]
    pruned = remove_(deepcopy(taught), random_like(result.mask, 1), neuron_groups(taught))
    for reading, model in zip(record.base, (result.model, taught, None, pruned), strict=True):
        if model is not None:
            assert reading.forget == next_token_metrics(model, blocks, batch_size=16, progress=False)


def test_exact_zeros_survive_quantization_in_both_formats(of):
    assert [finding.partition(":")[0] for finding in of("quantize").findings if "still exactly zero" in finding] == [
        "INT8",
        "NF4",
    ]
    assert {one.condition for one in of("quantize").readings} == {"INT8", "NF4"}


def test_relearning_is_read_on_the_way_and_in_the_end_for_every_seed(of, record):
    readings = of("relearn").readings
    assert [one.at for one in readings if (one.model, one.seed) == ("unlearned", 0)] == [2, 3]
    assert [one.retain is None for one in readings if (one.model, one.seed) == ("unlearned", 0)] == [True, False]
    assert {(one.model, one.seed) for one in readings} == {
        (who, seed) for who in ("unlearned", "original", "random mask") for seed in (0, 1)
    }
    assert min(top1(readings, "unlearned", "3 steps")) > top1(record.base, "unlearned")[0], "numbers come back by training"


def test_two_seeds_learn_from_different_samples(of):
    first, second = top1(of("relearn").readings, "original", "3 steps")
    assert first != second


def test_the_last_layer_of_the_lens_is_what_the_model_says(of, record):
    readings = of("logit-lens").readings
    assert top1(readings, "unlearned", "layer 2") == pytest.approx(top1(record.base, "unlearned"))
    assert top1(readings, "original", "layer 2") == pytest.approx(top1(record.base, "original"))


def test_the_adapter_gives_the_original_back_and_the_checkpoint_does_not(of, record):
    hides, gone = of("adapter").findings
    assert "leaving it out gives the original back bit for bit" in hides
    assert gone.startswith("All ") and "values of removed neurons are zero in the checkpoint" in gone
    on, off, again = (one.forget for one in of("adapter").readings)
    original, unlearned = (next(one.forget for one in record.base if one.model == who) for who in ("original", "unlearned"))
    assert off == original
    assert again == unlearned
    assert on.top1 == pytest.approx(unlearned.top1)


def test_without_a_neighbor_the_attack_says_so(of):
    assert of("neighbor").readings == ()
    assert re.match("No corpus near to .* is known: pass one as `neighbor=`", of("neighbor").findings[0])


def test_the_neighbor_of_code_is_a_corpus_that_is_there_without_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert {name: untangle.corpus(near, prefer="embedded").origin for name, near in NEIGHBORS.items()} == {
        "code": "embedded",
        "python": "embedded",
    }


def test_a_neighbor_and_a_gold_model_stand_beside_the_others_when_they_are_given(attack, taught):
    record = attack("neighbor", neighbor=[text.upper() for text in NUMBERS], gold=deepcopy(taught), seeds=1)
    (outcome,) = record.outcomes
    assert [one.model for one in outcome.readings] == ["unlearned", "original", "random mask", "gold"]
    assert top1(outcome.readings, "gold") == top1(outcome.readings, "original")
    assert record.gold == str(taught.name_or_path)


def test_examples_that_do_not_fit_the_context_are_left_out_and_said(attack):
    (outcome,) = attack("few-shot", seeds=1, shots=(1, 9)).outcomes
    assert {one.condition for one in outcome.readings} == {"1 example"}
    assert outcome.findings == ("9 examples of 32 tokens do not fit the context of 128 tokens.",)


def test_behind_a_prompt_the_same_tokens_are_predicted_from_more(blocks_of, taught):
    ids = torch.arange(24).view(2, 12)
    shown = prompted(blocks_of(ids), blocks_of(torch.full((3, 4), 99)))
    where, tokens = shown.queries()
    assert shown.input_ids.tolist() == [[99] * 12 + row for row in ids.tolist()]
    assert tokens.tolist() == blocks_of(ids).queries()[1].tolist()
    assert where.nonzero()[0].tolist() == [0, 12]
    logits = taught(shown.input_ids).logits[where].argmax(-1)
    assert next_token_metrics(taught, shown, progress=False).top1 == pytest.approx((logits == tokens).float().mean().item())


def test_of_many_bos_tokens_the_first_stays(blocks_of):
    blocks, examples = blocks_of(torch.tensor([[7, 1, 2, 3]])), blocks_of(torch.tensor([[7, 4, 5], [7, 6, 8]]))
    shown = prompted(blocks, examples, bos=1)
    assert shown.input_ids.tolist() == [[7, 4, 5, 6, 8, 1, 2, 3]]
    assert shown.queries()[1].tolist() == blocks.queries()[1].tolist() == [1, 2, 3]


def test_the_lens_reads_hidden_states_through_the_final_norm_and_the_head(taught, blocks, untouched):
    with torch.no_grad():
        states = deepcopy(taught).model(blocks.input_ids, output_hidden_states=True).hidden_states
        logits = taught.lm_head(taught.model.norm(states[1]))[:, :-1]
    hits = logits.argmax(-1) == blocks.input_ids[:, 1:]
    with untouched(taught):
        found = layer_metrics(taught, blocks, batch_size=4)
    assert found[1].top1 == pytest.approx(hits.float().mean().item())


def test_the_last_layer_is_the_model_in_every_family(model, blocks):
    layers = layer_metrics(model, blocks)
    assert len(layers) == 3
    assert layers[-1].loss == pytest.approx(next_token_metrics(model, blocks, progress=False).loss, rel=1e-4)


def test_a_training_is_measured_at_growing_distances():
    assert sorted(due_steps(60, 5)) == [2, 5, 12, 26, 60]
    assert due_steps(3, 10) == {1, 2, 3}


def test_an_attack_that_fails_loses_neither_its_own_readings_nor_the_others(attack, monkeypatch):
    def failing(scene):
        yield from list(run.ATTACKS["logit-lens"](scene))[:1]
        raise RuntimeError("the disk is full")

    monkeypatch.setitem(run.ATTACKS, "quantize", failing)
    broken, whole = attack("quantize", "logit-lens", seeds=1).outcomes
    assert broken.error == "RuntimeError: the disk is full" and len(broken.readings) == 1
    assert whole.error is None and whole.readings


def test_a_time_limit_ends_training_at_a_step_and_is_said(attack, monkeypatch):
    start = time.perf_counter()
    (outcome,) = attack("relearn", steps=10_000, max_seconds=0.5).outcomes
    assert outcome.stopped and outcome.error is None
    assert time.perf_counter() - start < 60
    last = outcome.readings[-1]
    assert last.model == "unlearned" and 1 <= last.at < 10_000 and last.retain is not None


def test_an_interruption_leaves_the_model_as_it_was(attack, result, taught, untouched, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_untangle.attacks.fine_tuning._Watch.on_step_end", interrupted)
    with untouched(result.model), untouched(taught), pytest.raises(KeyboardInterrupt):
        attack("relearn")


def test_a_result_keeps_its_attacks_until_it_is_repaired(result, taught):
    attacked = result.attack(original=taught, progress=False, attacks=["adapter"], **SMALL)
    assert attacked is result
    assert [one.attack for one in attacked.record.attacks[0].outcomes] == ["adapter"]
    assert UnlearnRecord.model_validate_json(attacked.record.model_dump_json()) == attacked.record


@pytest.mark.slow
def test_full_training_relearns_too(attack, record):
    (outcome,) = attack("relearn", relearn_methods=["full"], learning_rates=[1e-3], steps=20).outcomes
    assert outcome.error is None
    assert min(top1(outcome.readings, "unlearned", "20 steps")) > top1(record.base, "unlearned")[0]


@pytest.mark.slow
def test_a_repaired_model_is_another_one_so_that_its_attacks_begin_anew(result, taught, tokenizer):
    copy = type(result)(**{**vars(result), "model": deepcopy(result.model)})
    attacked = copy.attack(original=taught, progress=False, attacks=["adapter"], **SMALL)
    repaired = attacked.repair(steps=1, step_tokens=128, block_size=BLOCK, batch_size=4, progress=False)
    assert repaired.record.attacks == ()
    assert len(repaired.attack(original=taught, progress=False, attacks=["adapter"], **SMALL).record.attacks) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"attacks": ["relern"]}, "`attacks.0`: input should be 'quantize', 'relearn'.* got 'relern'"),
        ({"attacks": []}, "`attacks`: tuple should have at least 1 item"),
        ({"sedes": 3}, "There is no setting `sedes` .did you mean `seeds`"),
        ({"max_seconds": 0}, "`max_seconds`: input should be greater than 0"),
    ],
)
def test_wrong_settings_are_named(attack, wrong, message):
    with pytest.raises(ConfigError, match=message):
        attack(**wrong)


def test_another_model_is_no_original(attack, result):
    with pytest.raises(ConfigError, match="must be the model that the result was made from, but .* Pass the model before"):
        attack(original=untouched_twin(result.model))


def untouched_twin(model):
    """A model of the same shape with other weights."""
    twin = deepcopy(model)
    with torch.no_grad():
        twin.model.embed_tokens.weight += 1
    return twin


def test_several_processes_are_refused(attack, monkeypatch):
    monkeypatch.setattr(run, "place", lambda: (0, 2))
    with pytest.raises(ConfigError, match="Attacks run in one process, .* but there are 2. Save the result, and run"):
        attack()


def test_quick_settings_are_smaller_everywhere():
    full = untangle.configs.AttackConfig()
    for name in ("seeds", "max_seconds", "samples", "steps", "step_tokens", "points", "evaluation_tokens"):
        assert getattr(QUICK, name) < getattr(full, name)


def test_relearning_tries_every_way_once_and_the_worst_with_every_seed(attack):
    ways = {"learning_rates": (5e-3, 1e-6), "relearn_methods": ("lora", "full")}
    (outcome,) = attack("relearn", steps=2, points=1, **ways).outcomes
    of_first = [one for one in outcome.readings if one.model == "unlearned" and one.seed == 0]
    assert len({one.setting for one in of_first}) == 4
    of_second = {one.setting for one in outcome.readings if one.model == "unlearned" and one.seed == 1}
    assert of_second == {max(of_first, key=lambda one: one.forget.top1).setting}


def test_relearning_leaves_ways_out_where_time_is_needed_for_the_comparison(attack):
    rates = tuple(1e-3 / 2**n for n in range(60))
    (outcome,) = attack("relearn", steps=2, points=1, learning_rates=rates, max_seconds=2.0).outcomes
    assert re.match(r"\d+ of 60 ways to train were tried, as the time", outcome.findings[0])
    assert {(one.model, one.seed) for one in outcome.readings} >= {("original", 0), ("unlearned", 0), ("random mask", 0)}


def test_without_tuning_the_other_models_are_trained_as_is_worst_for_the_result(attack):
    (outcome,) = attack("relearn", steps=2, points=1, learning_rates=(1e-6, 5e-3), tune_all=False).outcomes
    assert {one.setting for one in outcome.readings if one.model == "original"} == {"lora, 0.005, warm-up 10%"}


def test_held_out_facts_are_measured_before_and_after_training_on_others(of):
    readings = [one for one in of("held-out-facts").readings if (one.model, one.seed) == ("unlearned", 0)]
    assert [one.at for one in readings] == [0, 2, 3]
    assert readings[-1].forget.top1 > readings[0].forget.top1


def test_an_attack_that_the_time_for_all_leaves_nothing_for_is_not_run(attack):
    (outcome,) = attack("few-shot", total_seconds=1e-6).outcomes
    assert outcome.stopped and outcome.readings == () and outcome.error is None


def test_beside_a_result_that_was_trained_stands_a_random_update_of_the_same_size(taught, tokenizer):
    how = {
        "steps": 16,
        "learning_rate": 1e-2,
        "retain_budget": 1.0,
        "perplexity_budget": 1e6,
        "disruption_budget": 9.0,
        "controls": 0,
    }
    how |= {
        "tokens": 1024,
        "evaluation_tokens": 512,
        "block_size": BLOCK,
        "tokenizer": tokenizer,
        "prompts": [],
        "progress": False,
    }
    trained = untangle.unlearn(deepcopy(taught), NUMBERS, WORDS, method="graddiff", **how)
    settings = SMALL | {"attacks": ["quantize", "relearn"], "original": taught, "progress": False}
    report = untangle.attack(trained, **settings)
    base = {(one.model, one.seed): one.forget.top1 for one in report.record.base}
    assert set(base) == {("unlearned", 0), ("original", 0), ("random update", 0), ("random update", 1)}
    assert base["random update", 0] > base["unlearned", 0] + 0.1, "aimed at nothing, it takes little"
    judged = {one.attack: one.judgment for one in verdicts(report.record) if one.judgment != "not run"}
    assert set(judged) == {"quantize", "relearn"} and "no verdict" not in judged.values()
    assert "a random update's gain" in " ".join(verdict_sentences(report.record))
    scene = scene_of(trained, AttackConfig.resolve("default", **SMALL), taught, None, None)
    moved, again = (dict(scene.victim("random update", seed)[2].named_parameters()) for seed in (0, 1))
    for name, before in taught.named_parameters():
        update, other, after = (one[name] - before for one in (moved, again, dict(trained.model.named_parameters())))
        assert torch.allclose(update.flatten().sort().values, after.flatten().sort().values, atol=1e-6), name
        assert not before.numel() > 99 or not torch.equal(update, other), name
