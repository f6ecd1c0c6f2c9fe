"""How figures look: the colors that they share with the page, and what differs from matplotlib's defaults.

The data colors are from the palette of Okabe and Ito, which people with any common color vision can tell apart.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import NamedTuple

from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from hf_untangle.architecture.neurons import Kind


class Color(NamedTuple):
    """One role, two colors."""

    name: str
    """The name of its CSS variable, without the dashes."""
    light: str
    """What figures are drawn with; no two roles share it, as the page finds the role by it."""
    dark: str


PAGE = Color("page", "#ffffff", "#15191e")
BAND = Color("band", "#f3f5f7", "#1e242b")
RULE = Color("rule", "#dfe3e8", "#333b45")
POINT = Color("point", "#a3adb8", "#66707c")
MUTED = Color("muted", "#5f6b7a", "#9aa5b1")
INK = Color("ink", "#1c232b", "#e6e9ed")
RUN = Color("run", "#d55e00", "#f28b46")
FFN = Color("ffn", "#0072b2", "#56aee6")
ATTENTION = Color("attention", "#009e73", "#3cc79f")

PALETTE = (PAGE, BAND, RULE, POINT, MUTED, INK, RUN, FFN, ATTENTION)
"""Every color there is."""

KIND_NAME: dict[Kind, str] = {"ffn": "FFN", "attention": "attention"}
KIND_COLOR: dict[Kind, Color] = {"ffn": FFN, "attention": ATTENTION}

SETTINGS = {
    "figure.dpi": 100,
    "font.size": 10,
    "text.color": INK.light,
    "axes.labelcolor": MUTED.light,
    "axes.edgecolor": RULE.light,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "grid.color": RULE.light,
    "grid.linewidth": 0.6,
    "xtick.color": RULE.light,
    "ytick.color": RULE.light,
    "xtick.labelcolor": MUTED.light,
    "ytick.labelcolor": MUTED.light,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "hf_untangle",
}
"""Matplotlib's settings by name. Text in SVG stays text, and the same figure gives the same file every time."""


@contextmanager
def quiet_style() -> Iterator[None]:
    """Draw with our settings, whatever the caller's are, inside the `with` block.

    Yields:
        Nothing.
    """
    with style.context(["default", SETTINGS]):
        yield


def share_ticks() -> FuncFormatter:
    """Write the shares on an axis as percentages, with no more digits than they need."""
    return FuncFormatter(lambda share, _: f"{100 * share:.3g}%")


def plain(text: str) -> str:
    """Let a text stand as it is, dollars included, which matplotlib would read as the borders of a formula.

    Args:
        text: For instance the name of a file.

    Returns:
        The text for matplotlib.
    """
    return text.replace("$", r"\$")


# Matplotlib would otherwise write its own address and the time into the file.
NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def inline_svg(figure: Figure, label: str) -> Markup:
    """Write a figure as one SVG element, as wide as its surroundings.

    Every color of the palette becomes a CSS variable (`var(--ink)`), so that the page can change it with its own colors.
    Nothing in it is loaded from elsewhere.

    Args:
        figure: A figure in the colors of the palette.
        label: What the figure shows, for people who cannot see it.

    Returns:
        Markup that needs no escaping.
    """
    buffer = StringIO()
    with quiet_style():
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", drawing, count=1)
    for color in PALETTE:
        drawing = drawing.replace(color.light, f"var(--{color.name})")
    return Markup(drawing.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1))
