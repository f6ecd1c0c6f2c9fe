"""Watch the linear regions of a ReLU model while it is trained, and whether its KAN is still the same function."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.callbacks.due import own_log_stays_due
from hf_untangle.errors import ConfigError
from hf_untangle.translation.training import TrainingWatch


class TranslationCallback(TrainerCallback):
    """Logs `TrainingMeasures` at the start of a training and then at intervals, under `translation/...`.

    Training with it is, to the last bit, training without it.

        trainer = Trainer(model, ...)
        trainer.add_callback(TranslationCallback(trainer, inputs=batch, every=100))
    """

    def __init__(self, trainer: Trainer, inputs: Mapping[str, Any], every: int = 100) -> None:
        """Choose when to look, and on what.

        Args:
            trainer: Whose log the numbers go to, and from there to its reporters.
            inputs: Keyword arguments of the model: a batch of evaluation data.
            every: How many optimizer steps there are between two looks.

        Raises:
            ConfigError: The interval is no step at all.
        """
        if every < 1:
            raise ConfigError(f"There must be at least 1 step between two looks, got every={every}.")
        self.trainer = trainer
        self.watch = TrainingWatch(inputs)
        self.every = every

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the first look, which later ones are compared with."""
        self._look(kwargs["model"], control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look again when it is time."""
        if state.global_step % self.every == 0:
            self._look(kwargs["model"], control)

    def _look(self, model: Any, control: TrainerControl) -> None:
        """Take one look and log it."""
        measures = asdict(self.watch.look(model))
        with own_log_stays_due(control):
            self.trainer.log({f"translation/{name}": value for name, value in measures.items()})
