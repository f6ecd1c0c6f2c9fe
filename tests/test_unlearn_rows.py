"""Rows with answers on their way through a whole run: what is counted, what is named, and what the record says."""

from copy import deepcopy

import pytest
import torch
from toy_languages import NUMBERS, TOY_CONFIG, WORDS

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.corpora import corpus
from hf_untangle.data.two_corpora import two_corpora
from hf_untangle.evaluation.evaluate import evaluate
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.model_card import model_card
from hf_untangle.reporting.table import comparison_table, corpus_rows
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency
from hf_untangle.unlearn import unlearn


def pairs_of(texts):
    """The first half of every text as a prompt, and the second as its completion."""
    return [{"prompt": text[: len(text) // 2], "completion": text[len(text) // 2 :]} for text in texts]


HOW = {"config": TOY_CONFIG, "steps": 1, "controls": 0, "progress": False, "tokens": 1024, "evaluation_tokens": 512}


@pytest.fixture(scope="module")
def run(taught, tokenizer):
    """One step on pairs to forget, words and other pairs to retain, judged on the same rows and on others too."""
    forget = corpus(pairs_of(NUMBERS[:60]), name="tickets")
    retain = [WORDS, corpus(pairs_of(WORDS[:60]), name="letters")]
    also = {"neighbors": pairs_of(NUMBERS[60:90])}
    return unlearn(deepcopy(taught), forget, retain, tokenizer=tokenizer, also=also, split="all", block_size=64, **HOW)


def test_a_run_on_pairs_counts_their_completions_alone(run):
    said = run.record.corpora["forget_train"]
    assert said["corpus"] == "tickets"
    assert ", no template, " in said["understood"] and "answer tokens of" in said["understood"]
    assert said["tokens"] == run.forget.tokens < 1024


def test_the_same_rows_are_judged_when_all_are_to_be_forgotten(run):
    corpora = run.record.corpora
    assert corpora["forget_validation"]["fingerprint"] == corpora["forget_test"]["fingerprint"]
    assert corpora["retain_validation"]["fingerprint"] != corpora["retain_test"]["fingerprint"]


def test_every_retain_corpus_and_what_else_is_measured_has_its_own_line(run):
    each = run.record.test.by_corpus
    assert [(one.use, one.name) for one in each] == [("retain", "strings"), ("retain", "letters"), ("also", "neighbors")]
    retain = [one for one in each if one.use == "retain"]
    tokens = sum(one.before.tokens for one in retain)
    assert tokens == run.record.test.before.retain.tokens
    assert sum(one.before.top1 * one.before.tokens for one in retain) / tokens == pytest.approx(
        run.record.test.before.retain.top1
    )
    assert [row.name for row in corpus_rows(run.record)] == ["retain: strings", "retain: letters", "also: neighbors"]
    assert comparison_table(run.record).row_count > 8
    card = str(model_card(run.record))
    assert "| also: neighbors |" in card and "- forget: tickets: " in card
    assert UnlearnRecord.model_validate_json(run.record.model_dump_json()) == run.record


def test_repair_of_a_run_on_pairs_trains_and_measures_completions(run):
    repaired = deepcopy(run).repair(steps=1, block_size=64, progress=False)
    assert repaired.record.repairs[-1].corpus["understood"]


def test_two_data_sets_never_have_one_name():
    rows = pairs_of(NUMBERS[:9])
    assert [one.name for one in two_corpora(rows, pairs_of(WORDS[:9]))] == ["rows (forget)", "rows (retain)"]
    gone, kept = two_corpora(NUMBERS[:9], [WORDS[:9], corpus(rows)])
    assert gone.name == "strings (forget)"
    assert [one.name for one in kept.members] == ["strings (retain)", "rows"]
    assert [one.name for one in two_corpora("python", "python")] == ["python", "python"]


def test_one_preference_data_set_is_both_corpora():
    rows = [{"prompt": f"{n}", "chosen": "good", "rejected": "bad"} for n in range(9)]
    for gone, kept in (two_corpora(rows, None), two_corpora(rows, rows)):
        assert {document.content.answer for document in gone.examples("train")} == {"bad"}
        assert {document.content.answer for document in kept.examples("train")} == {"good"}
        assert gone.name != kept.name
    labelled = [{"prompt": f"{n}", "completion": "x", "label": n % 2 == 0} for n in range(20)]
    gone, kept = two_corpora(corpus(labelled, name="kto"), None)
    assert len([*gone.examples("train"), *gone.examples("validation"), *gone.examples("test")]) == 10
    assert (gone.name, kept.name) == ("kto (forget)", "kto (retain)")


def test_statistics_and_metrics_are_of_answers_and_padding_changes_nothing(taught, tokenizer):
    rows = [{"prompt": "the cat ", "completion": "sat on a mat"}, {"prompt": "a", "completion": " hill"}]
    both = token_blocks(corpus(rows, split="all"), tokenizer, block_size=64)
    alone = [token_blocks(corpus([row], split="all"), tokenizer, block_size=64) for row in rows]
    found, parts = collect(taught, both, progress=False), [collect(taught, one, progress=False) for one in alone]
    assert found.tokens == both.tokens == len("sat on a mat") + len(" hill") + 2
    for name, moments in found.moments.items():
        assert torch.allclose(moments.absolute, sum(part.moments[name].absolute for part in parts))
    metrics = next_token_metrics(taught, both, progress=False)
    expected = [next_token_metrics(taught, one, progress=False) for one in alone]
    assert metrics.tokens == both.tokens
    assert metrics.loss * metrics.tokens == pytest.approx(sum(one.loss * one.tokens for one in expected), rel=1e-5)


def test_gradients_are_of_the_loss_on_answers_summed_over_prompts_too(taught, tokenizer):
    """The sum of z g is the derivative of the loss by a factor on the neuron, which acts at every position."""
    blocks = token_blocks(corpus([{"prompt": "the cat ", "completion": "sat on"}], split="all"), tokenizer, block_size=64)
    (group, *_) = (one for one in neuron_groups(taught) if one.kind == "ffn")
    found = collect_saliency(taught, blocks, groups=[group], progress=False)[group.name]
    assert found.count == len("sat on") + 1

    model, factor = deepcopy(taught), torch.ones(group.size, requires_grad=True)
    model.get_submodule(group.name).register_forward_pre_hook(lambda _, args: (args[0] * factor,))
    inputs = blocks.inputs(torch.device("cpu"))
    loss = model(**inputs, labels=blocks.labels()).loss * found.count
    (gradient,) = torch.autograd.grad(loss, factor)
    assert torch.allclose(found.first.float(), gradient, atol=1e-4)


def test_an_evaluation_takes_rows_with_answers_as_corpus_and_as_pairs(taught, tokenizer):
    rows = pairs_of(WORDS[:20])
    on_rows = evaluate(taught, corpus(rows, split="all"), tokenizer=tokenizer, progress=False, tokens=4096, block_size=64)
    on_text = evaluate(taught, WORDS[:20], tokenizer=tokenizer, progress=False, block_size=64)
    assert on_rows.values.keys() == on_text.values.keys()
    asked = evaluate(
        taught, pairs=rows, metrics=["answer_probability", "rouge"], tokenizer=tokenizer, progress=False, prompts=2
    )
    assert 0 < asked.values["answer_probability"] <= 1
