"""The page: a slider for the strength, a prompt, two continuations, the curve and the map of layers."""

from typing import TYPE_CHECKING

from hf_untangle.app.strengths import Strengths
from hf_untangle.architecture.neurons import KINDS
from hf_untangle.errors import UntangleError
from hf_untangle.reporting import formatting
from hf_untangle.reporting.plots import removed_by_layer, trade_off
from hf_untangle.reporting.style import KIND_NAME, PALETTE, inline_svg
from hf_untangle.reporting.table import corpus_name, drop_of

if TYPE_CHECKING:
    from gradio import Blocks  # pyright: ignore[reportMissingImports]

TITLE = "hf_untangle"
LINES = 10
"""Of both continuations, so that they stand level; longer ones scroll."""
LIMIT = (
    "A strength hides neurons of the original model while it runs. The checkpoint in the folder has those of the chosen step "
    "removed from its weights."
)


def build_page(strengths: Strengths) -> "Blocks":
    """Lay the page out, and connect its parts.

    Args:
        strengths: What to try.

    Returns:
        The page, which `launch` serves.
    """
    import gradio as gr  # pyright: ignore[reportMissingImports]

    chosen, prompts = strengths.record.history.chosen, [text.prompt for text in strengths.record.continuations]
    with gr.Blocks(title=f"{TITLE}: {strengths.record.model}", analytics_enabled=False) as page:
        gr.Markdown(f"## {strengths.record.model} without {corpus_name(strengths.record, 'forget')}")
        strength = gr.Slider(0, len(strengths.masks), value=chosen, step=1, label="Strength", elem_id="strength")
        words = gr.Markdown(describe(strengths, chosen), elem_id="description")
        prompt = gr.Textbox(prompts[0] if prompts else "", label="Prompt", lines=2, elem_id="prompt", elem_classes="text")
        with gr.Row(equal_height=True):
            length = gr.Slider(8, 256, value=40, step=8, label="New tokens", elem_id="length")
            button = gr.Button("Continue", variant="primary", elem_id="continue")
        with gr.Row():
            looks = {"lines": LINES, "max_lines": LINES, "interactive": False, "elem_classes": "text"}
            before = gr.Textbox(label="Original", elem_id="before", **looks)
            after = gr.Textbox(label="Unlearned", elem_id="after", **looks)
        if len(prompts) > 1:
            gr.Examples([[one] for one in prompts], prompt, label="Prompts of the run")
        with gr.Row():
            curve = gr.HTML(draw_curve(strengths, chosen), elem_id="curve")
            layers = gr.HTML(draw_layers(strengths, chosen), elem_id="layers")
        gr.Markdown(LIMIT)

        def compare(at: float, text: str, new_tokens: float) -> tuple[str, str]:
            try:
                return strengths.compare(int(at), text, int(new_tokens))
            except UntangleError as error:
                raise gr.Error(str(error)) from error

        def look(at: float) -> tuple[str, str, str]:
            return describe(strengths, int(at)), draw_curve(strengths, int(at)), draw_layers(strengths, int(at))

        # There is one model, which is masked while it runs, so visitors wait for each other.
        gr.on([button.click, strength.release], compare, [strength, prompt, length], [before, after], concurrency_limit=1)
        strength.change(look, strength, [words, curve, layers], show_progress="hidden")
    return page


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
        f"{corpus_name(strengths.record, use)} {formatting.drop(drop_of(use, step.scores, history.base))}"
        for use in ("forget", "retain")
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


def page_style() -> str:
    """The colors of the figures as CSS variables, for Gradio's light and dark pages, and a font that keeps code in columns.

    Returns:
        CSS.
    """
    light, dark = (";".join(f"--{one.name}:{getattr(one, mode)}" for one in PALETTE) for mode in ("light", "dark"))
    return f".untangle{{{light}}} .dark .untangle{{{dark}}} .text textarea{{font-family:monospace}}"


def _in_colors(drawing: str) -> str:
    """Put a drawing where the colors of the palette are known."""
    return f'<div class="untangle">{drawing}</div>'
