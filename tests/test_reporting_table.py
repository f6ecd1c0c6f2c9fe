"""The table for the terminal, and the sentence."""

import io
from dataclasses import replace

import pytest
from records import a_record, corpora, scores
from rich.console import Console

from hf_untangle.records.unlearning import Comparison
from hf_untangle.reporting.model_card import model_card
from hf_untangle.reporting.page import report_page
from hf_untangle.reporting.table import budget_verdict, comparison_rows, comparison_table, selectivity_verdict, summary

CONTROLS = (scores(0.46, 0.30), scores(0.48, 0.31))


def compared(before, after, controls=()):
    return a_record(test=Comparison(before=before, after=after, controls=controls))


def printed(record, width=80):
    console = Console(width=width, file=(written := io.StringIO()), color_system=None)
    console.print(comparison_table(record))
    return written.getvalue()


def test_the_rows_are_the_original_the_unlearned_and_the_random_model():
    original, unlearned, random = comparison_rows(a_record())
    assert (original.model, unlearned.model, random.model) == ("original", "unlearned", "random mask")
    assert (original.forget.top1, original.forget.drop) == ("50.2%", "")
    assert (unlearned.forget.top1, unlearned.forget.drop) == ("14.6%", "70.9%")
    assert (unlearned.retain.drop, unlearned.retain.perplexity) == ("6.1%", "55.5")
    assert (random.forget.drop, random.retain.drop) == ("8.0%", "7.7%")


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (scores(0.1, 0.298), "Within budget: general lost 0.7% on held-out text, of 5.0% allowed."),
        (scores(0.1, 0.31), "Within budget: general lost 0.0% on held-out text, of 5.0% allowed."),
        (scores(0.1, 0.2), "Over budget: general lost 33.3% on held-out text, of 5.0% allowed."),
    ],
)
def test_the_budget_is_judged_in_words(after, verdict):
    assert budget_verdict(compared(scores(0.5, 0.3), after)) == verdict


def test_what_fell_no_more_than_by_chance_is_said_not_to_be_forgotten():
    chance = compared(scores(0.5, 0.3), scores(0.48, 0.3), CONTROLS)
    assert str(selectivity_verdict(chance)).startswith("Not forgotten: code fell no more than under random masks")
    assert selectivity_verdict(compared(scores(0.5, 0.3), scores(0.1, 0.3), CONTROLS)) is None
    assert selectivity_verdict(compared(scores(0.5, 0.3), scores(0.5, 0.3))) is None


def test_what_to_try_depends_on_what_ended_the_run_and_on_how_little_it_was_judged():
    chance = Comparison(before=scores(0.5, 0.3), after=scores(0.48, 0.3), controls=CONTROLS)
    steps = len(a_record().history.steps)
    over = a_record(test=chance, config=a_record().config.with_settings(steps=steps))
    assert f"All {steps} steps were taken: allow more of them (`steps`), or try another" in str(selectivity_verdict(over))
    ended = a_record(test=chance, config=a_record().config.with_settings(steps=steps + 2))
    said = str(selectivity_verdict(ended))
    assert f"The budgets ended the run after {steps} of {steps + 2} steps: retain text of the kind that must stay" in said
    assert "tokens only" not in said
    few = chance.before.model_copy(update={"forget": replace(chance.before.forget, tokens=120)})
    said = str(selectivity_verdict(a_record(test=chance.model_copy(update={"before": few}))))
    assert said.endswith("It was judged on 120 tokens only, where chance is large: pass more rows.")


def test_without_hits_on_retain_there_is_no_verdict():
    assert budget_verdict(compared(scores(0.5, 0.0), scores(0.1, 0.0))).startswith("No verdict on the budget of 5.0%")


def test_without_controls_there_is_no_random_row():
    assert len(comparison_rows(compared(scores(0.5, 0.3), scores(0.1, 0.3)))) == 2


def test_controls_by_magnitude_and_by_the_retain_corpus_have_rows_of_their_own():
    both = {"before": scores(0.5, 0.3), "after": scores(0.1, 0.3), "controls": CONTROLS}
    test = Comparison.model_validate(both | {"magnitude": scores(0.45, 0.25), "retain_only": scores(0.40, 0.32)})
    rows = comparison_rows(a_record(test=test))
    assert [row.model for row in rows[2:]] == ["random (mean of 2)", "magnitude", "retain-only"]
    assert (rows[3].forget.drop, rows[4].forget.drop) == ("10.0%", "20.0%")
    card, page = str(model_card(a_record(test=test))), report_page(a_record(test=test), {})
    for text in (card, page):
        assert "retain-only" in text and "smallest weights" in text and "chosen without the forget corpus" in text


def test_several_controls_are_averaged_with_their_spread():
    random = comparison_rows(compared(scores(0.5, 0.3), scores(0.1, 0.3), CONTROLS))[2]
    assert random.model == "random (mean of 2)"
    assert random.forget.top1 == "47.0% ±\u00a01.4%"
    assert random.forget.drop == "6.0% ±\u00a02.8%"


def test_a_rise_a_zero_and_an_infinite_perplexity_have_their_own_cells():
    unlearned = comparison_rows(compared(scores(0.5, 0.300), scores(0.0, 0.303, (float("inf"), 48.0))))[1]
    assert (unlearned.forget.top1, unlearned.forget.drop, unlearned.forget.perplexity) == ("0.0%", "100.0%", "inf")
    assert unlearned.retain.drop == "rose 1.0%"


def test_a_model_that_knew_nothing_has_no_relative_drop():
    record = compared(scores(0.0, 0.3), scores(0.0, 0.3), (scores(0.0, 0.3),))
    assert [row.forget.drop for row in comparison_rows(record)] == ["", "n/a", "n/a"]
    assert "has no relative drop on code (forget: 0.0% to 0.0%)" in summary(record)


@pytest.mark.parametrize("controls", [(), CONTROLS[:1], CONTROLS])
def test_the_table_fits_eighty_columns_whole(controls):
    text = printed(compared(scores(0.502, 0.326), scores(0.146, 0.306), controls))
    assert "…" not in text
    for word in ("forget: code", "retain: general", "top-10", "perplexity", "original", "unlearned", "70.9%"):
        assert word in text


def test_a_corpus_name_is_not_read_as_markup():
    assert "forget: [red]code[/red]" in printed(a_record(corpora=corpora(forget="[red]code[/red]")))


def test_the_sentence_names_what_fell_what_stayed_and_what_chance_does():
    assert summary(a_record()) == (
        "Top-1 next-token accuracy on held-out text fell by 70.9% on code (forget: 50.2% to 14.6%) and by 6.1% on general "
        "(retain: 32.6% to 30.6%), with 3.2 million of 134.5 million parameters (2.4%) removed; under a random mask of the "
        "same size the first fell by 8.0% and the second by 7.7%."
    )


def test_the_sentence_says_that_an_accuracy_rose():
    sentence = summary(compared(scores(0.5, 0.30), scores(0.1, 0.33)))
    assert "fell by 80.0% on code" in sentence
    assert "rose by 10.0% on general (retain: 30.0% to 33.0%)" in sentence
    assert sentence.endswith("removed.")
