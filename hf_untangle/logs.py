"""Loading and running models without the chatter of other libraries."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what transformers, peft and bitsandbytes say inside the `with` block, which nobody here can act on.

    Yields:
        Nothing.
    """
    loggers = [logging.getLogger(name) for name in ("transformers", "bitsandbytes")]
    levels = [one.level for one in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
