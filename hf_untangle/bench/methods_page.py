"""The figure and the page of the benchmark of methods."""

from html import escape

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_untangle.bench.methods_record import Cell, MethodsBenchRecord
from hf_untangle.bench.methods_table import columns, methods_notes, methods_rows
from hf_untangle.reporting.recovery import base_of, by_dose, mean_top1, worst_settings
from hf_untangle.reporting.style import inline_svg, quiet_style, share_ticks

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
table{border-collapse:collapse}td,th{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #d9dee5}
td:first-child,th:first-child{text-align:left}figure{margin:1.5rem 0}div{overflow-x:auto}"""


def methods_figure(record: MethodsBenchRecord) -> Figure:
    """Draw forgetting against disruption, and accuracy while relearning, one color per method.

    Args:
        record: The benchmark.

    Returns:
        A figure with two panels, 9 inches wide.
    """
    methods = list(dict.fromkeys(cell.method for cell in record.cells))
    palette = colormaps["tab10" if len(methods) <= 10 else "tab20"]
    colors = {method: palette(number % palette.N) for number, method in enumerate(methods)}
    with quiet_style():
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for cell in record.cells:
            label = cell.method if cell.seed == 0 else None
            _draw_path(left, cell, colors[cell.method], label)
            _draw_relearning(right, cell, colors[cell.method])
        left.axvline(record.settings["disruption_budget"], linestyle=":", linewidth=1)
        left.set(xlabel="KL(original || model) on retain, nats per token", ylabel="forget drop (validation)", xlim=0, ylim=0)
        right.set(xlabel="steps of relearning", ylabel="forget top-1", ylim=0)
        left.yaxis.set_major_formatter(share_ticks())
        right.yaxis.set_major_formatter(share_ticks())
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw_path(axes: Axes, cell: Cell, color: tuple[float, ...], label: str | None) -> None:
    """Draw the judged steps of one run."""
    points = [(0.0, 0.0), *((point.disruption, point.forget_drop) for point in cell.path)]
    axes.plot(*zip(*points, strict=True), "o-", color=color, markersize=3, linewidth=1.4, label=label)


def _draw_relearning(axes: Axes, cell: Cell, color: tuple[float, ...]) -> None:
    """Draw what comes back, where it was measured."""
    record = cell.attacks
    outcome = None if record is None else next((one for one in record.outcomes if one.attack == "relearn"), None)
    if record is None or outcome is None or not outcome.readings:
        return
    mine = [one for one in (*base_of(record, outcome), *worst_settings(outcome.readings)) if one.model == "unlearned"]
    doses = [(at, mean_top1(some, "unlearned")) for at, some in by_dose(mine)]
    axes.plot(*zip(*doses, strict=True), "o-", color=color, markersize=3, linewidth=1.4)


def methods_page(record: MethodsBenchRecord) -> str:
    """Write the table, the figure and the notes as a page that loads nothing from elsewhere.

    Args:
        record: The benchmark.

    Returns:
        HTML.
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in ("method", *columns(record)))
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in methods_rows(record))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    drawing = inline_svg(methods_figure(record), "Forgetting against disruption, and accuracy while relearning")
    notes = "".join(f"<li>{escape(note)}</li>" for note in methods_notes(record))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Methods at equal disruption</title>'
        f"<style>{STYLE}</style><h1>Methods at equal disruption</h1><div><table><tr>{head}</tr>{body}</table></div>"
        f"<figure>{drawing}</figure><ul>{notes}</ul></html>\n"
    )
