"""Serving the page on this machine, and nowhere else."""

import importlib.util
from typing import TYPE_CHECKING

from hf_untangle.app.page import build_page, page_style
from hf_untangle.app.strengths import Strengths
from hf_untangle.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from gradio import Blocks  # pyright: ignore[reportMissingImports]

HOST = "127.0.0.1"


def launch(strengths: Strengths, *, port: int | None = None, browser: bool = False) -> "Blocks":
    """Begin to serve the page of a result on the loopback interface; it loads nothing from elsewhere and tells nobody.

    Args:
        strengths: What to try.
        port: Where to listen; a free one when None.
        browser: Whether to open a browser.

    Returns:
        The page: its address is `local_url`, and `block_thread()` waits until it is interrupted.

    Raises:
        ConfigError: The port is taken.
    """
    from gradio.themes import Default  # pyright: ignore[reportMissingImports]
    from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]
    from starlette.middleware.trustedhost import TrustedHostMiddleware  # pyright: ignore[reportMissingImports]

    page = build_page(strengths)
    try:
        page.launch(
            server_name=HOST,
            server_port=port,
            inbrowser=browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            # Gradio's own theme asks a server of Google's for its fonts.
            # A page elsewhere cannot reach this one under a name of its own.
            app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])]},
            theme=Default(font="system-ui", font_mono="monospace"),
            css=page_style(),
            footer_links=[],
        )
    except OSError as error:
        raise ConfigError(
            f"The page needs a free port, but {port or 'every usual one'} is taken. Choose another one."
        ) from error
    return page


def check_installed() -> None:
    """Refuse to begin without Gradio.

    Raises:
        MissingExtraError: It is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise MissingExtraError("The page needs the package `gradio`: run `pip install 'hf-untangle[app]'`.")
