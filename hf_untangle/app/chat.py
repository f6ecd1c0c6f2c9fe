"""The chat of the page: one message, an answer by the original model and one by the masked one, turn by turn."""

from typing import TYPE_CHECKING, Any

from hf_untangle.app.strengths import Chats, Strengths
from hf_untangle.errors import UntangleError

if TYPE_CHECKING:
    from gradio import Slider  # pyright: ignore[reportMissingImports]

HEIGHT = 320
"""Pixels of each chat, which scrolls."""
NARROW = 300
"""Pixels that a chat needs beside another."""


def chat_tab(strengths: Strengths, strength: "Slider", length: "Slider") -> None:
    """Lay a chat out inside the tab that is being made.

    Args:
        strengths: What to try.
        strength: The slider of the strength, which counts for the next answer.
        length: The slider of new tokens.
    """
    import gradio as gr  # pyright: ignore[reportMissingImports]

    chats = gr.State(([], []))
    # What models write is text: it is neither read as HTML nor as Markdown.
    looks: dict[str, Any] = {"height": HEIGHT, "render_markdown": False, "feedback_options": None, "buttons": []}
    with gr.Row():
        with gr.Column(min_width=NARROW):
            original = gr.Chatbot(label="Original", elem_id="chat-before", **looks)
        with gr.Column(min_width=NARROW):
            unlearned = gr.Chatbot(label="Unlearned", elem_id="chat-after", **looks)
    message = gr.Textbox(label="Message", lines=1, max_lines=8, elem_id="message")
    with gr.Row():
        send = gr.Button("Send", variant="primary", elem_id="send", min_width=100)
        stop = gr.Button("Stop", elem_id="stop-chat", min_width=100)
        anew = gr.Button("New chat", elem_id="anew", min_width=100)

    def answer(at: float, said: Chats, text: str, new_tokens: float) -> tuple[Any, ...]:
        try:
            before, after = strengths.chat(int(at), said, text, int(new_tokens))
        except UntangleError as error:
            raise gr.Error(str(error)) from error
        return (before, after), before, after, ""

    gr.on(
        [send.click, message.submit],
        answer,
        [strength, chats, message, length],
        [chats, original, unlearned, message],
        concurrency_limit=1,
        concurrency_id="model",
    )
    stop.click(strengths.stop, queue=False)
    anew.click(lambda: (([], []), [], []), None, [chats, original, unlearned], show_progress="hidden")
