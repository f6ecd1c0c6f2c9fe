"""Everything that a reader of a result may want to open, written beside the checkpoint."""

from pathlib import Path

from hf_untangle.masks.mask import NeuronMask
from hf_untangle.records.shareable import shareable
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.attack_plot import attack_figure
from hf_untangle.reporting.eval_results import write_eval_results
from hf_untangle.reporting.model_card import model_card
from hf_untangle.reporting.page import report_page
from hf_untangle.reporting.plots import removed_by_layer, trade_off
from hf_untangle.reporting.scatter import importance_scatter
from hf_untangle.reporting.style import quiet_style
from hf_untangle.statistics.activation_statistics import ActivationStatistics

DOTS_PER_INCH = 200
"""Of the PNG files, which are 1,400 pixels wide then."""


def write_report(
    folder: str | Path,
    record: UnlearnRecord,
    forget: ActivationStatistics,
    retain: ActivationStatistics,
    mask: NeuronMask,
    license: str | None = None,
) -> None:
    """Write the page (`report.html`), its figures (`plots/*.png`), the model card (`README.md`) and `.eval_results`.

    Args:
        folder: An existing folder.
        record: The run.
        forget: Statistics of the original model on the forget corpus.
        retain: The same on the retain corpus.
        mask: Which neurons stayed.
        license: The license of the original model, for the card.

    Raises:
        StatisticsError: The statistics and the mask are of different models; nothing is written then.
    """
    record = shareable(record)
    figures = {
        "trade_off": trade_off(record),
        "removed_by_layer": removed_by_layer(record),
        "importance_scatter": importance_scatter(record, forget, retain, mask),
    }
    if record.attacks:
        figures["attacks"] = attack_figure(record.attacks[-1])
    page, card = report_page(record, figures), model_card(record, license)
    plots = Path(folder) / "plots"
    plots.mkdir(exist_ok=True)
    with quiet_style():
        for name, figure in figures.items():
            figure.savefig(plots / f"{name}.png", dpi=DOTS_PER_INCH)
    (Path(folder) / "report.html").write_text(page, encoding="utf-8")
    card.save(Path(folder) / "README.md")
    write_eval_results(Path(folder), record)
