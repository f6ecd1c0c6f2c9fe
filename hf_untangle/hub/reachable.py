"""Whether the Hub answers, so that nothing waits for it in vain: libraries try five times, for half a minute each."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from huggingface_hub import constants, get_session

TIMEOUT_SECONDS = 2.0
REMEMBERED_SECONDS = 60.0
"""For how long an answer counts, so that a notebook notices when the network is there again."""


def hub_is_reachable() -> bool:
    """Ask whether the Hub answers, once a minute at the most.

    Returns:
        True when the Hub answers a HEAD request within two seconds; False when it does not, or when
        `HF_HUB_OFFLINE` forbids to ask.
    """
    return not constants.HF_HUB_OFFLINE and _ask(constants.ENDPOINT, int(time.monotonic() / REMEMBERED_SECONDS))


@contextmanager
def cache_alone_without_hub(source: str | Path) -> Iterator[None]:
    """Let libraries look into their caches alone inside the `with` block when the Hub does not answer.

    Args:
        source: What they are going to load. Nothing happens when it is a folder or a file.

    Yields:
        Nothing.
    """
    before = constants.HF_HUB_OFFLINE
    if not before and not Path(source).exists() and not hub_is_reachable():
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@lru_cache(maxsize=1)
def _ask(endpoint: str, minute: int) -> bool:  # noqa: ARG001 (what is remembered is forgotten with it)
    """Ask the Hub."""
    try:
        return get_session().head(endpoint, timeout=TIMEOUT_SECONDS).status_code < 500
    except Exception:  # Which errors there are depends on the HTTP client that the user has chosen.
        return False
