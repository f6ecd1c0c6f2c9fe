"""When callbacks act, every so many optimizer steps, and how they log without cancelling the pending log of the Trainer."""

from collections.abc import Mapping

from transformers import Trainer, TrainerControl, TrainerState

from hf_untangle.errors import ConfigError


def check_every(every: int) -> None:
    """Refuse an interval of no step.

    Args:
        every: Optimizer steps.

    Raises:
        ConfigError: It is not a whole number of at least 1.
    """
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ConfigError(f"`every` must be a number of optimizer steps, at least 1, got {every!r}. Pass a whole number.")


def is_due(state: TrainerState, every: int) -> bool:
    """Tell whether a callback acts at the end of this step.

    Args:
        state: The state of the run; accumulated gradients and resumed runs change nothing, as the Trainer counts its steps.
        every: Optimizer steps.

    Returns:
        True at every multiple.
    """
    return state.global_step % every == 0


def check_whole_in_each_process(trainer: Trainer, what: str) -> None:
    """Refuse a trainer that splits the weights of its model between processes.

    Args:
        trainer: The trainer.
        what: What needs the weights, for the message.

    Raises:
        ConfigError: It uses FSDP or DeepSpeed.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ConfigError(
            f"{what} needs whole weights in every process, got a Trainer that splits them (FSDP or DeepSpeed). Train with "
            "DistributedDataParallel, which `torchrun` uses by default."
        )


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
