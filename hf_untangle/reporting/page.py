"""The report: one page that shows a run to a person, and that nothing has to be loaded for."""

from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from hf_untangle.pruning.record import UnlearnRecord
from hf_untangle.reporting.facts import limits, settings, short_name, title
from hf_untangle.reporting.style import PALETTE
from hf_untangle.reporting.svg import inline_svg
from hf_untangle.reporting.table import comparison_rows, corpus_name, summary
from hf_untangle.reporting.templating import render


class Caption(NamedTuple):
    """What stands over and under a figure."""

    heading: str
    text: str


CAPTIONS = {
    "trade_off": Caption(
        "What forgetting cost",
        "Relative loss of top-1 accuracy on the validation parts, step by step from the original model at the origin. Above "
        "the dashed line more is forgotten than lost. The ringed step was chosen: the most selective one inside the retain "
        "budget. The table above shows the test parts, which nothing was chosen by.",
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
    return render(
        "report.html.j2",
        record=record,
        title=title(record),
        model=short_name(record),
        summary=summary(record),
        forget=corpus_name(record, "forget"),
        retain=corpus_name(record, "retain"),
        rows=comparison_rows(record),
        figures=[(CAPTIONS[name], _drawing(name, figures[name])) for name in CAPTIONS if name in figures],
        limits=limits(record),
        settings=settings(record.config),
        palette=PALETTE,
    )


def _drawing(name: str, figure: Figure) -> Markup:
    """A figure as markup, described by its heading."""
    return inline_svg(figure, CAPTIONS[name].heading)
