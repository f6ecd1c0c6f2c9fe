"""Logging from a callback without the Trainer forgetting what it was about to log itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import TrainerControl


@contextmanager
def own_log_stays_due(control: TrainerControl) -> Iterator[None]:
    """Keep the Trainer's own log due while something else is logged inside the `with` block.

    `Trainer.log` ends whatever log is due, so that a callback that calls it at the end of a step would cost the loss of that
    step.

    Args:
        control: The control that the callback was called with.

    Yields:
        Nothing.
    """
    due = control.should_log
    yield
    control.should_log = due
