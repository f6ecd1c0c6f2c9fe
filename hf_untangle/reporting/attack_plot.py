"""One figure of all attacks: a panel for each, a line for each model."""

from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_untangle.configs.attack import Attack
from hf_untangle.records.attacks import AttackOutcome, AttackRecord, Reading, Who
from hf_untangle.reporting.attacks import attacked
from hf_untangle.reporting.recovery import OTHER_TEXT, by_dose, worst_settings
from hf_untangle.reporting.style import ATTENTION, FFN, INK, MUTED, RUN, Color, plain, quiet_style, share_ticks

COLORS: dict[Who, Color] = {"unlearned": RUN, "original": INK, "random mask": MUTED, "random update": MUTED, "gold": ATTENTION}
AXES: dict[Attack, str] = {
    "relearn": "steps",
    "benign": "steps",
    "held-out-facts": "steps",
    "few-shot": "examples",
    "logit-lens": "layer",
    "tuned-lens": "layer",
    "patching": "layer",
    "direction": "layer",
    "probe": "layer",
    "best-of": "samples",
}
"""What the doses of an attack count; those of the others have names."""
FROM_ZERO = ("quantize", "relearn", "benign", "few-shot", "int4")
"""Attacks whose dose 0 is the model as it is."""
COLUMNS = 3


def attack_figure(record: AttackRecord) -> Figure:
    """Draw the top-1 accuracy on the forget corpus against the dose of each attack, with bands of one standard deviation.

    Args:
        record: The attacks.

    Returns:
        A figure, 9 inches wide, with a panel for every attack that has measured something.
    """
    drawn = [outcome for outcome in record.outcomes if outcome.readings]
    rows = max(1, -(-len(drawn) // COLUMNS))
    with quiet_style():
        figure = Figure(figsize=(9, 0.6 + 2.4 * rows), layout="constrained")
        panels: list[Axes] = list(figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).flat)
        for axes, outcome in zip(panels, drawn, strict=False):
            _draw(axes, record, outcome)
        for axes in panels[len(drawn) :]:
            axes.set_axis_off()
        panels[0].set_ylim(bottom=0)
        panels[0].yaxis.set_major_formatter(share_ticks())
        figure.supylabel(f"top-1 on {plain(record.corpus['corpus'])}", fontsize=10, color=MUTED.light)
        figure.legend(*_handles(panels), loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    return figure


def _handles(panels: list[Axes]) -> tuple[list, list[str]]:
    """One handle of each model, whichever panel it is in."""
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)


def _draw(axes: Axes, record: AttackRecord, outcome: AttackOutcome) -> None:
    """Draw one attack."""
    readings = [*(record.base if outcome.attack in FROM_ZERO else ()), *worst_settings(outcome.readings)]
    for who in attacked(record):
        _line(axes, [reading for reading in readings if reading.model == who], who)
    if outcome.attack in AXES:
        axes.set_xlabel(AXES[outcome.attack])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        doses = {at: some[0].condition for at, some in by_dose(readings)}
        axes.set_xticks(list(doses), [plain(name).replace(" ", "\n", 1) for name in doses.values()])
        axes.margins(x=0.15)
    title = outcome.attack + (" (other text)" if outcome.attack in OTHER_TEXT else "")
    axes.set_title(title, color=FFN.light)


def _line(axes: Axes, readings: list[Reading], who: Who) -> None:
    """Draw what one model knows at each dose."""
    if not readings:
        return
    doses = [(at, [reading.forget.top1 for reading in some]) for at, some in by_dose(readings)]
    at, middle = [at for at, _ in doses], [fmean(values) for _, values in doses]
    spread = [stdev(values) if len(values) > 1 else 0.0 for _, values in doses]
    color = COLORS[who].light
    axes.plot(at, middle, "o-", color=color, markersize=3, linewidth=1.6, label=who)
    low, high = ([mean + sign * width for mean, width in zip(middle, spread, strict=True)] for sign in (-1, 1))
    axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
