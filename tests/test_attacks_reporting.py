"""What is said about attacks follows from their record alone."""

import math
from io import StringIO

import pytest
from records import a_record, an_attack, outcome, reading
from rich.console import Console

from hf_untangle.attacks.report import AttackReport
from hf_untangle.records.attacks import AttackRecord
from hf_untangle.reporting.attacks import attack_markdown, attack_rows, attack_sentences
from hf_untangle.reporting.card_text import limits
from hf_untangle.reporting.model_card import model_card
from hf_untangle.reporting.page import report_page
from hf_untangle.reporting.recovery import came_back


@pytest.fixture
def record() -> AttackRecord:
    return an_attack(
        outcome(
            "relearn",
            *(reading("unlearned", 0.2 + 0.1 * seed, "2 steps", 2, seed) for seed in (0, 1)),
            *(reading("original", 0.62, "2 steps", 2, seed) for seed in (0, 1)),
            *(reading("unlearned", 0.6, "3 steps", 3, seed) for seed in (0, 1)),
            stopped=True,
        ),
        outcome("neighbor", reading("unlearned", 0.3, "other-code", 1), reading("original", 0.5, "other-code", 1)),
        outcome("logit-lens", *(reading("unlearned", top1, f"layer {i}", i) for i, top1 in enumerate((0.0, 0.3, 0.2, 0.1)))),
        outcome("quantize", error="OSError: no room\non the disk"),
        outcome("adapter", findings=("It can be undone.",)),
    )


def test_what_came_back_is_a_share_of_what_was_lost(record):
    two, three = [r for r in record.outcomes[0].readings if r.at == 2], [r for r in record.outcomes[0].readings if r.at == 3]
    assert came_back(record.base, two) == pytest.approx([0.2, 0.4])
    assert came_back(record.base, three) == pytest.approx([1.0, 1.0])


def test_where_nothing_was_lost_nothing_comes_back(record):
    same = record.model_copy(update={"base": (reading("unlearned", 0.6), reading("original", 0.6))})
    assert all(map(math.isnan, came_back(same.base, [reading("unlearned", 0.7)])))


def test_rows_have_the_mean_and_the_spread_over_seeds_of_every_model(record):
    base, two, three, near, lens = attack_rows(record)
    assert base.top1 == ("10.0%", "60.0%", "52.0% ±\u00a02.8%") and base.came_back == ""
    assert (two.attack, two.condition, two.came_back) == ("relearn", "2 steps", "30.0% ±\u00a014.1%")
    assert two.top1 == ("25.0% ±\u00a07.1%", "62.0% ±\u00a00.0%", "")
    assert three.came_back == "100.0% ±\u00a00.0%"
    assert near.came_back == "", "other text says nothing about recovery"
    assert (lens.condition, lens.top1[0]) == ("layer 1 of 3, the best inner one", "30.0%")


def test_what_failed_stopped_or_was_found_is_said(record):
    assert attack_sentences(record) == (
        "The attack relearn met its time limit after 1 min 1 s.",
        "The attack quantize failed: OSError: no room on the disk",
        "It can be undone.",
    )


def test_table_markdown_json_and_figure_are_of_the_same_record(record, tmp_path):
    report = AttackReport(record)
    console = Console(width=200, record=True, file=StringIO())
    console.print(report.table())
    text = console.export_text()
    for row in attack_rows(record):
        assert row.condition in text and f"| {row.attack} | {row.condition} |" in report.markdown()
    report.save(tmp_path / "attacks.json")
    assert AttackRecord.model_validate_json((tmp_path / "attacks.json").read_text()) == record
    panels = [axes for axes in report.figure().axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == ["relearn", "neighbor (other text)", "logit-lens"]
    first = {line.get_label(): line for line in panels[0].get_lines()}
    assert list(first["unlearned"].get_xdata()) == [0, 2, 3]
    assert list(first["unlearned"].get_ydata()) == pytest.approx([0.1, 0.25, 0.6])


def test_card_and_page_tell_of_attacks_and_change_what_they_do_not_show(record):
    run = a_record()
    attacked = run.model_copy(update={"attacks": (record,)})
    assert "No such attack was run here" in " ".join(limits(run))
    assert "No such attack" not in model_card(attacked).text
    assert attack_markdown(record) in model_card(attacked).text
    assert "plots/attacks.png" in model_card(attacked).text and "plots/attacks.png" not in model_card(run).text
    page = report_page(attacked, {"attacks": AttackReport(record).figure()})
    assert "Does it come back?" in page and "30.0% ±" in page and "What attacks brought back" in page
    assert "Does it come back?" not in report_page(run, {})
