"""Serving the page on this machine, and nowhere else."""

import importlib.util

from hf_untangle.app.ladder import Ladder
from hf_untangle.app.page import build_page, page_style
from hf_untangle.errors import ConfigError, MissingExtraError

HOST = "127.0.0.1"


def serve(ladder: Ladder, *, port: int | None = None, browser: bool = False, wait: bool = True) -> str:
    """Serve the page of a result on the loopback interface; it loads nothing from elsewhere and tells nobody.

    Args:
        ladder: What to try.
        port: Where to listen; a free one when None.
        browser: Whether to open a browser.
        wait: Whether to stay until the program is interrupted.

    Returns:
        The address of the page.

    Raises:
        ConfigError: The port is taken.
    """
    import gradio as gr

    # Gradio's own theme asks a server of Google's for its fonts.
    theme = gr.themes.Default(font="system-ui", font_mono="monospace")
    page = build_page(ladder)
    try:
        _, address, _ = page.launch(
            server_name=HOST,
            server_port=port,
            inbrowser=browser,
            share=False,
            prevent_thread_lock=not wait,
            theme=theme,
            css=page_style(),
            footer_links=[],
        )
    except OSError as error:
        raise ConfigError(f"The page needs a free port, but {port} is taken. Choose another, or leave it out.") from error
    return address


def check_installed() -> None:
    """Refuse to begin without Gradio.

    Raises:
        MissingExtraError: It is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise MissingExtraError("The page needs the package `gradio`: run `pip install 'hf-untangle[app]'`.")
