"""The page: a slider for the strength, a prompt with two continuations or a chat with two answers, the curve and the layers."""

from typing import TYPE_CHECKING, Any

from hf_untangle.app.chat import chat_tab
from hf_untangle.app.drawings import describe, draw_curve, draw_layers
from hf_untangle.app.strengths import MOST_NEW_TOKENS, Strengths
from hf_untangle.errors import UntangleError
from hf_untangle.reporting.style import PALETTE
from hf_untangle.reporting.table import corpus_name

if TYPE_CHECKING:
    from gradio import Blocks, Slider  # pyright: ignore[reportMissingImports]

TITLE = "hf_untangle"
LINES = 10
"""Of both continuations, so that they stand level; longer ones scroll."""
NARROW = 300
"""Pixels that a pane needs: two stand side by side where there is room for both, and one below the other else."""
FIGURE = 480
"""The same for figures, whose text is hard to read on less; on a narrower screen they scroll sideways."""
WAITING = 8
"""Requests that may wait for the model."""
LIMIT = (
    "A strength hides neurons of the original model while it runs. The checkpoint in the folder has those of the chosen step "
    "removed from its weights."
)
STORED = "Both continuations are those that the run wrote down, at its chosen step."


def build_page(strengths: Strengths) -> "Blocks":
    """Lay the page out, and connect its parts.

    Args:
        strengths: What to try.

    Returns:
        The page, which `launch` serves.
    """
    import gradio as gr  # pyright: ignore[reportMissingImports]

    chosen = strengths.record.history.chosen
    with gr.Blocks(title=f"{TITLE}: {strengths.record.model}", analytics_enabled=False) as page:
        gr.Markdown(f"## {strengths.record.model} without {corpus_name(strengths.record, 'forget')}")
        strength = gr.Slider(0, len(strengths.masks), value=chosen, step=1, label="Strength", elem_id="strength")
        words = gr.Markdown(describe(strengths, chosen), elem_id="description")
        length = gr.Slider(8, MOST_NEW_TOKENS, value=40, step=8, label="New tokens", elem_id="length")
        with gr.Tabs():
            with gr.Tab("Continue a text", elem_id="texts"):
                _text_tab(strengths, strength, length)
            if strengths.can_chat:
                with gr.Tab("Chat", elem_id="chat"):
                    chat_tab(strengths, strength, length)
        with gr.Row():
            with gr.Column(min_width=FIGURE):
                curve = gr.HTML(draw_curve(strengths, chosen), elem_id="curve")
            with gr.Column(min_width=FIGURE):
                layers = gr.HTML(draw_layers(strengths, chosen), elem_id="layers")
        gr.Markdown(LIMIT)

        def look(at: float) -> tuple[str, str, str]:
            return describe(strengths, int(at)), draw_curve(strengths, int(at)), draw_layers(strengths, int(at))

        strength.change(look, strength, [words, curve, layers], show_progress="hidden")
    return page.queue(max_size=WAITING)


def _text_tab(strengths: Strengths, strength: "Slider", length: "Slider") -> None:
    """A prompt, and its continuations: first those that the run wrote down."""
    import gradio as gr  # pyright: ignore[reportMissingImports]

    stored = {text.prompt: (text.before, text.after) for text in strengths.record.continuations}
    first = next(iter(stored), "")
    prompt = gr.Textbox(first, label="Prompt", lines=2, max_lines=8, elem_id="prompt", elem_classes="text")
    with gr.Row():
        button = gr.Button("Continue", variant="primary", elem_id="continue", min_width=120)
        stop = gr.Button("Stop", elem_id="stop", min_width=120)
    note = gr.Markdown(STORED if stored else "", elem_id="note")
    looks: dict[str, Any] = {"lines": LINES, "max_lines": LINES, "interactive": False, "elem_classes": "text"}
    texts = stored.get(first, ("", ""))
    with gr.Row():
        with gr.Column(min_width=NARROW):
            before = gr.Textbox(texts[0], label="Original", elem_id="before", **looks)
        with gr.Column(min_width=NARROW):
            after = gr.Textbox(texts[1], label="Unlearned", elem_id="after", **looks)
    if len(stored) > 1:
        examples = gr.Dataset(
            components=[gr.Textbox(visible=False)],
            samples=[[one] for one in stored],
            label="Prompts of the run, with what it wrote down",
            elem_id="examples",
        )
        examples.click(
            lambda sample: (sample[0], strengths.record.history.chosen, *stored[sample[0]], STORED),
            examples,
            [prompt, strength, before, after, note],
            show_progress="hidden",
        )

    def compare(at: float, text: str, new_tokens: float) -> tuple[str, str, str]:
        try:
            return *strengths.compare(int(at), text, int(new_tokens)), f"Written now, at strength {int(at)}."
        except UntangleError as error:
            raise gr.Error(str(error)) from error

    # There is one model, which is masked while it runs, so visitors wait for each other.
    gr.on(
        [button.click, strength.release],
        compare,
        [strength, prompt, length],
        [before, after, note],
        concurrency_limit=1,
        concurrency_id="model",
    )
    stop.click(strengths.stop, queue=False)


def page_style() -> str:
    """The colors of the figures as CSS variables, for Gradio's light and dark pages, and a font that keeps code in columns.

    Returns:
        CSS.
    """
    light, dark = (";".join(f"--{one.name}:{getattr(one, mode)}" for one in PALETTE) for mode in ("light", "dark"))
    colors = f".untangle{{{light}}} .dark .untangle{{{dark}}}"
    return (
        f"{colors} .untangle{{overflow-x:auto}} .untangle svg{{min-width:{FIGURE}px}} .text textarea{{font-family:monospace}}"
    )
