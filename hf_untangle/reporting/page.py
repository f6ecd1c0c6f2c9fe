"""The report: one page that shows a run to a person, and that nothing has to be loaded for."""

from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from hf_untangle.records.attacks import AttackRecord
from hf_untangle.records.shareable import shareable
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.attacks import attack_rows, attack_sentences, attack_settings, attacked
from hf_untangle.reporting.card_text import limits, origin, removed, selectivity, settings, title
from hf_untangle.reporting.evaluation import asked_rows
from hf_untangle.reporting.frontier import frontier_rows, is_movable
from hf_untangle.reporting.methods import method_sentences
from hf_untangle.reporting.repairs import repair_heading, repair_sentences
from hf_untangle.reporting.style import PALETTE, inline_svg
from hf_untangle.reporting.table import comparison_rows, corpus_name, corpus_rows, drop_of, summary
from hf_untangle.reporting.task_terms import understood_lines, wording
from hf_untangle.reporting.templating import render
from hf_untangle.reporting.verdicts import verdict_rows, verdict_sentences


class Caption(NamedTuple):
    """What stands over and under a figure."""

    heading: str
    text: str


CAPTIONS = {
    "trade_off": Caption(
        "What forgetting cost",
        "Relative loss of top-1 accuracy on the validation parts, step by step from the original model at the origin. Above "
        "the dashed line more is forgotten than lost. The ringed step was chosen: the most selective one inside the retain "
        "budget. Thin lines are intervals of 95% over blocks. The first table shows the held-out test parts.",
    ),
    "attacks": Caption(
        "What attacks brought back",
        "Top-1 on held-out text of the forget corpus against the dose of each attack: the mean over seeds, in a band of one "
        "standard deviation. Dose 0 is the model as it is.",
    ),
    "removed_by_layer": Caption(
        "Where neurons were removed",
        "Share of each layer's neurons. An FFN neuron is an input of the down projection, an attention neuron an input of "
        "the attention output projection.",
    ),
    "importance_scatter": Caption(
        "Which neurons were removed",
        "Importance to both corpora in the original model; a point is a neuron, and of many a random sample is drawn. "
        "Neurons at zero stand on the edge. With iterative pruning, later steps are chosen on statistics of the pruned model.",
    ),
}
"""Heading and caption of every figure, in the order of the page."""


def report_page(record: UnlearnRecord, figures: dict[str, Figure]) -> str:
    """Write a run as one self-contained HTML page.

    Figures are inline SVG; the page makes no request, needs no JavaScript, follows the reader's light or dark setting and
    can be printed.

    Args:
        record: The run.
        figures: Figures by the keys of `CAPTIONS`; those that are missing are left out.

    Returns:
        The page.
    """
    record = shareable(record)
    return render(
        "report.html.j2",
        record=record,
        words=wording(record),
        title=title(record),
        summary=summary(record),
        forget=corpus_name(record, "forget"),
        retain=corpus_name(record, "retain"),
        rows=comparison_rows(record),
        by_corpus=corpus_rows(record),
        understood=understood_lines(record),
        asked=asked_rows(record),
        figures=[(CAPTIONS[name], _drawing(name, figures[name])) for name in CAPTIONS if name in figures],
        repairs=repair_sentences(record),
        repair_heading=repair_heading(record),
        trained=method_sentences(record),
        frontier=frontier_rows(record),
        movable=is_movable(record),
        attacks=[_attack(one) for one in record.attacks],
        key_numbers=key_numbers(record),
        run=_run(record),
        limits=limits(record),
        settings=settings(record.config),
        palette=PALETTE,
    )


def _drawing(name: str, figure: Figure) -> Markup:
    """A figure as markup, described by its heading."""
    return inline_svg(figure, CAPTIONS[name].heading)


def _attack(attack: AttackRecord) -> dict[str, object]:
    """What the page shows of some attacks."""
    return {
        "settings": attack_settings(attack),
        "attacked": attacked(attack),
        "rows": attack_rows(attack),
        "sentences": attack_sentences(attack),
        "verdicts": verdict_rows(attack),
        "verdict": verdict_sentences(attack),
    }


def key_numbers(record: UnlearnRecord) -> list[tuple[str, str, bool]]:
    """Gather the numbers that a reader must see first.

    Args:
        record: The run.

    Returns:
        Name, value, and whether it is the one that the run was for.
    """
    before, after = record.test.before, record.final
    return [
        (f"top-1 lost on {corpus_name(record, 'forget')}", formatting.drop(drop_of("forget", after, before)), True),
        (f"top-1 lost on {corpus_name(record, 'retain')}", formatting.drop(drop_of("retain", after, before)), False),
        ("parameters removed", formatting.percent(record.parameters_removed / record.parameters), False),
    ]


def _run(record: UnlearnRecord) -> list[tuple[str, str]]:
    """What ran, on what, when, and what it came to."""
    history = record.history
    return [
        ("Original model", origin(record)),
        ("Parameters", f"{formatting.amount(record.parameters)}, {formatting.amount(record.parameters_removed)} removed"),
        ("Neurons removed", "; ".join(removed(record))),
        ("Removed, but still computed for another query head", formatting.amount(record.still_computed)),
        ("Steps", f"{len(history.steps)}, of which step {history.chosen} was chosen"),
        ("Largest selectivity of any step, on the validation parts", selectivity(record)),
        ("Dtype", record.dtype),
        ("Device", record.device),
        ("Date", record.date),
        ("Time", formatting.duration(record.seconds)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]
