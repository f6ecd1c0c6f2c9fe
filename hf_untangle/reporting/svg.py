"""A figure as SVG that lies inside a page and follows the page's colors."""

import re
from html import escape
from io import StringIO

from markupsafe import Markup
from matplotlib.figure import Figure

from hf_untangle.reporting.style import PALETTE, quiet_style

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
