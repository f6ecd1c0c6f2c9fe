"""A repair is told wherever the run is: in the table, the sentence, the page, the card and the program."""

import ast

import pytest
from records import a_distillation, a_record, a_repair

from hf_untangle.reporting.card_text import limits
from hf_untangle.reporting.model_card import model_card, snippet
from hf_untangle.reporting.page import report_page
from hf_untangle.reporting.repairs import repair_heading, repair_sentences
from hf_untangle.reporting.table import comparison_rows, summary

REPAIRED = a_record(repairs=(a_repair(),))


def test_the_table_has_a_row_for_each_repair_between_the_unlearned_and_the_random_model():
    assert [row.model for row in comparison_rows(REPAIRED)] == ["original", "unlearned", "repaired", "random mask"]
    (row,) = (row for row in comparison_rows(REPAIRED) if row.model == "repaired")
    assert (row.forget.top1, row.retain.top1) == ("16.1%", "32.5%")
    assert (row.forget.drop, row.retain.drop) == ("67.9%", "0.3%")


def test_the_summary_and_the_hub_are_told_of_the_model_as_it_is_now():
    assert "(forget: 50.2% to 16.1%)" in summary(REPAIRED)
    results = {(each.dataset_split, each.metric_name): each.metric_value for each in model_card(REPAIRED).data.eval_results}
    assert results[("retain_test", "next-token top-1 accuracy")] == 0.325


def test_the_sentences_by_hand():
    (sentences,) = repair_sentences(REPAIRED)
    assert sentences == (
        "The model was then trained on general alone (prose, train part), with removed neurons held at zero: a low-rank "
        "adapter, merged into the weights in the end, 4.9 million parameters, 60 steps, 61,440 tokens, in 3 min 10 s, and "
        "25.0% of the target was what the original predicts. The drop on general went from 6.1% to 0.3%, and that on code went "
        "from 70.9% to 67.9%."
    )


def test_without_distillation_nothing_is_said_of_the_original():
    repair = a_repair(original=None, settings={"method": "full", "steps": 5, "distill": 0.0})
    (sentences,) = repair_sentences(a_record(repairs=(repair,)))
    assert "all weights, " in sentences and "original" not in sentences


@pytest.mark.parametrize("text", [model_card(REPAIRED).text, report_page(REPAIRED, {})], ids=["card", "page"])
def test_card_and_page_tell_the_repair_and_its_limit(text):
    for phrase in ("How it was repaired", "with removed neurons held at zero", "a part of what it gained there is fitting"):
        assert phrase in " ".join(text.split())


@pytest.mark.parametrize("text", [model_card(a_record()).text, report_page(a_record(), {})], ids=["card", "page"])
def test_without_a_repair_nothing_is_said_of_one(text):
    assert "repair" not in text
    assert len(limits(REPAIRED)) == len(limits(a_record())) + 1


def test_the_program_repeats_the_repair():
    calls = [node for node in ast.walk(ast.parse(snippet(REPAIRED))) if isinstance(node, ast.Call)]
    (repair,) = (node for node in calls if ast.unparse(node.func) == "result.repair")
    keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in repair.keywords}
    assert keywords == {"original": "org/original"} | dict(a_repair().settings)


ROBUST = a_record(repairs=(a_repair(), a_distillation()))


def test_a_distillation_has_a_row_a_heading_and_a_limit_of_its_own():
    assert [row.model for row in comparison_rows(ROBUST)][:4] == ["original", "unlearned", "repaired", "robust"]
    for text in (model_card(ROBUST).text, report_page(ROBUST, {})):
        assert "How it was repaired and made robust" in text
        assert "relearning slower, not impossible" in " ".join(text.split())
    assert repair_heading(a_record(repairs=(a_distillation(),))) == "How it was made robust"
    assert len(limits(ROBUST)) == len(limits(a_record())) + 2


def test_the_sentences_on_a_distillation_by_hand():
    _, sentences = repair_sentences(ROBUST)
    assert sentences == (
        "The weights were then shrunk by 25.0% and perturbed, and what the unlearned model predicts on general + self (train "
        "part) was distilled into them, with removed neurons held at zero: 120,000 tokens, which cost as much as 530,000 "
        "forward, in 1 h 0 min. KL(unlearned || robust) on held-out text fell from 3.200 to 0.040 nats per token. The drop on "
        "general went from 6.1% to 6.7%, and that on code went from 70.9% to 71.9%."
    )


def test_a_tolerance_that_was_not_met_is_said():
    far = a_distillation(divergences=({"tokens": 0, "nats": 3.2, "top1": 0.05}, {"tokens": 9, "nats": 0.2, "top1": 0.2}))
    (sentences,) = repair_sentences(a_record(repairs=(far,)))
    assert "to 0.200 nats per token, above the tolerance of 0.05." in sentences


def test_the_program_repeats_the_distillation_after_the_repair():
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(snippet(ROBUST))) if isinstance(node, ast.Call)]
    assert [name for name in calls if name.startswith("result.")] == ["result.repair", "result.robustify"]
