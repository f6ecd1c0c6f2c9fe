"""Watch the linear regions of a ReLU model while it is trained, and whether its KAN is still the same function."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.arguments import checked_calls
from hf_untangle.callbacks.interval import check_every, check_whole_in_each_process, is_due, log_numbers
from hf_untangle.callbacks.run import file_to_resume, file_to_save, model_of
from hf_untangle.distributed import in_main
from hf_untangle.translation.training_watch import TrainingWatch

logger = logging.getLogger("hf_untangle")


@checked_calls
class TranslationCallback(TrainerCallback):
    """Logs `TrainingMeasures` at the start of a training and then every few optimizer steps.

    Training with it is, to the last bit, training without it. The last look is saved in every checkpoint, and a resumed run
    compares its next one with it.

        trainer = Trainer(model, ...)
        trainer.add_callback(TranslationCallback(trainer, inputs=batch, every=100))
    """

    def __init__(self, trainer: Trainer, inputs: Mapping[str, Any], *, every: int = 100) -> None:
        """Choose when to look, and on what.

        Args:
            trainer: The trainer that this is added to; its `log` takes the numbers to where the run reports to.
            inputs: Keyword arguments of the model: a batch of evaluation data, on which the model is run once now.
            every: Optimizer steps between two looks.

        Raises:
            ConfigError: `every` is not positive, the inputs are no keyword arguments, or the trainer splits weights.
            StatisticsError: No activation is piecewise linear, or the blocks do not run on the same tokens.
            TranslationError: The model has no feed-forward block of Linear, activation and Linear, or one is gated.
        """
        check_every(every)
        check_whole_in_each_process(trainer, "Comparing a model with its KAN")
        self.trainer, self.every = trainer, every
        self.watch = TrainingWatch(inputs)
        self.watch.check(model_of(trainer))

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the first look, which later ones are compared with, unless the run is resumed from one."""
        self.watch = TrainingWatch(self.watch.inputs)
        file = file_to_resume(self.trainer, self, "translation")
        if file is not None and file.is_file():
            self.watch.load(file)
            return
        if file is not None:
            logger.warning("The run is resumed, but there is no `%s`: the first look is taken here.", file)
        self._look(kwargs["model"], control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look again when it is time."""
        if is_due(state, self.every):
            self._look(kwargs["model"], control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the last look into the checkpoint."""
        in_main(lambda: self.watch.save(file_to_save(self.trainer, self, "translation")))

    def _look(self, model: Any, control: TrainerControl) -> None:
        """Take one look and log it."""
        log_numbers(self.trainer, control, "translation", asdict(self.watch.look(model)))
