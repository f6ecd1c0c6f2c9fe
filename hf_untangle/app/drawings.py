"""What the page says and draws of a strength: a sentence, the curve and the map of layers."""

from hf_untangle.app.strengths import Strengths
from hf_untangle.architecture.neurons import KINDS
from hf_untangle.reporting.plots import removed_by_layer, trade_off
from hf_untangle.reporting.style import KIND_NAME, inline_svg
from hf_untangle.reporting.table import corpus_name, drop_between


def describe(strengths: Strengths, strength: int) -> str:
    """Say what a strength removes, and what that costs on the validation parts.

    Args:
        strengths: What to try.
        strength: 0 for the original, or the number of a step.

    Returns:
        A sentence or two.
    """
    if not strength:
        return "The original model: nothing is hidden."
    history = strengths.record.history
    step, mask = history.steps[strength - 1], strengths.masks[strength - 1]
    gone = [
        f"{mask.removed(kind):,} of {mask.neurons(kind):,} {KIND_NAME[kind]} neurons" for kind in KINDS if mask.neurons(kind)
    ]
    costs = [
        f"{corpus_name(strengths.record, use)} {drop_between(use, step.scores, history.base)}" for use in ("forget", "retain")
    ]
    which = ", the chosen one" if strength == history.chosen else ""
    return f"Step {strength} of {len(history.steps)}{which}: without {' and '.join(gone)}. Top-1 drop: {', '.join(costs)}."


def draw_curve(strengths: Strengths, strength: int) -> str:
    """Draw the trade-off of all steps, with the strength ringed.

    Args:
        strengths: What to try.
        strength: 0 for the original, or the number of a step.

    Returns:
        HTML.
    """
    return _in_colors(inline_svg(trade_off(strengths.record_at(strength)), "What every step took from both corpora"))


def draw_layers(strengths: Strengths, strength: int) -> str:
    """Draw the share of neurons that a strength removes from every layer.

    Args:
        strengths: What to try.
        strength: 0 for the original, or the number of a step.

    Returns:
        HTML.
    """
    return _in_colors(inline_svg(removed_by_layer(strengths.record_at(strength)), "Removed neurons by layer"))


def _in_colors(drawing: str) -> str:
    """Put a drawing where the colors of the palette are known."""
    return f'<div class="untangle">{drawing}</div>'
