"""Show how far a training is."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.progress import Bar


class ProgressBarCallback(TrainerCallback):
    """Counts optimizer steps on a bar that stands around the training, and shows the last loss that was logged."""

    def __init__(self, bar: Bar) -> None:
        """Take the bar.

        Args:
            bar: An open bar; the trainer's caller closes it, also where the training fails.
        """
        self._bar = bar

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count one step."""
        self._bar.update()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the loss."""
        if "loss" in kwargs["logs"]:
            self._bar.say(f"loss {kwargs['logs']['loss']:.3f}")
