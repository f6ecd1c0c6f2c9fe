"""Log from a callback without cancelling the Trainer's pending log."""

from collections.abc import Mapping

from transformers import Trainer, TrainerControl

PREFIX = "untangle"
"""The first part of every name that callbacks log: `untangle/<what>/<number>`."""


def log_numbers(trainer: Trainer, control: TrainerControl, what: str, numbers: Mapping[str, int | float]) -> None:
    """Log numbers to wherever the run reports to.

    `Trainer.log` clears `control.should_log`, so a callback that calls it at the end of a step would otherwise cost the loss
    of that step.

    Args:
        trainer: The trainer, whose `log` takes them.
        control: The control that the callback was called with.
        what: What the numbers are of, such as `density`.
        numbers: The numbers by name, which are logged as `untangle/<what>/<number>`.
    """
    due = control.should_log
    trainer.log({f"{PREFIX}/{what}/{name}": value for name, value in numbers.items()})
    control.should_log = due
