"""Show how far a training is."""

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class ProgressBarCallback(TrainerCallback):
    """One bar that counts optimizer steps and shows the last loss that was logged, on standard error alone."""

    def __init__(self, description: str, *, progress: bool = True) -> None:
        """Name what is being trained.

        Args:
            description: What stands before the bar.
            progress: Whether to show it at all.
        """
        self._description = description
        self._progress = progress
        self._bar: tqdm | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Open the bar at the step where the run is."""
        shown = self._progress and state.is_world_process_zero
        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit="step", desc=self._description, disable=not shown
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count one step."""
        if self._bar is not None:
            self._bar.update()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the loss."""
        if self._bar is not None and "loss" in kwargs["logs"]:
            self._bar.set_postfix(loss=f"{kwargs['logs']['loss']:.3f}")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
