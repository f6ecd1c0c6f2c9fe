"""Loading and running models without the chatter of other libraries."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what transformers, peft and bitsandbytes say inside the `with` block, which nobody here can act on.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        undo.enter_context(errors_alone("transformers", "bitsandbytes"))
        if transformers_logging.is_progress_bar_enabled():
            undo.callback(transformers_logging.enable_progress_bar)
            transformers_logging.disable_progress_bar()
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


@contextmanager
def errors_alone(*names: str) -> Iterator[None]:
    """Let some loggers pass on errors alone inside the `with` block.

    Args:
        *names: The loggers.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        for logger in map(logging.getLogger, names):
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
