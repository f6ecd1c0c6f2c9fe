"""Statistics of the batches that a model is trained on, from the training's own forward passes."""

import logging
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.arguments import checked_calls
from hf_untangle.callbacks.interval import check_every, log_numbers
from hf_untangle.callbacks.run import file_to_resume, file_to_save, model_of, run_of
from hf_untangle.distributed import in_main, together
from hf_untangle.errors import StatisticsError
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import merged
from hf_untangle.statistics.training_collector import PassCollector, of_training_step, overview

logger = logging.getLogger("hf_untangle")


@checked_calls
class StatisticsCallback(TrainerCallback):
    """Collects statistics of every few optimizer steps, all of their passes and all processes, and logs an overview of each.

    No pass is run twice. A compiled model runs uncompiled in the steps that are watched. What is collected is saved in every
    checkpoint, and a resumed run continues from there.

        trainer = Trainer(model, ...)
        callback = StatisticsCallback(trainer, every=100)
        trainer.add_callback(callback)
        trainer.train()
        callback.statistics.save("training.safetensors")
    """

    def __init__(
        self, trainer: Trainer, *, every: int = 1, groups: tuple[NeuronGroup, ...] | None = None, roots: bool = False
    ) -> None:
        """Prepare for a training.

        Args:
            trainer: The trainer that this is added to; its `log` takes the numbers to where the run reports to.
            every: Optimizer steps from one watched step to the next.
            groups: Which neuron groups to watch; all of them when None.
            roots: Whether to sum sqrt|z| too, which the importance `sqrt` needs.

        Raises:
            ConfigError: `every` is not positive.
            ArchitectureError: The model has no neuron groups.
        """
        check_every(every)
        self.trainer, self.every = trainer, every
        self._groups = neuron_groups(model_of(trainer)) if groups is None else groups
        self._roots = roots
        self._collector: PassCollector | None = None
        self._so_far: ActivationStatistics | None = None
        run_of(trainer).endings.append(self._stop)

    @property
    def statistics(self) -> ActivationStatistics:
        """The statistics of all watched steps together."""
        if self._so_far is None:
            raise StatisticsError("No step has been watched yet: train at least `every` steps before asking for statistics.")
        return self._so_far

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Begin to collect, or continue from the checkpoint where the run is resumed from one."""
        self._stop()
        self._collector = PassCollector(kwargs["model"], self._groups, roots=self._roots)
        file = file_to_resume(self.trainer, self, "statistics")
        self._so_far = ActivationStatistics.load(file) if file is not None and file.is_file() else None
        if file is not None and self._so_far is None:
            logger.warning("The run is resumed, but there is no `%s`: statistics are of the steps from here on.", file)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the passes of the step, if it is one to watch."""
        if self._collector is not None and (state.global_step + 1) % self.every == 0:
            self._collector.watch()

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count the pass that ended."""
        if self._collector is not None:
            self._collector.count()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the last pass of the step."""
        if self._collector is not None:
            self._collector.count()
            self._collector.stop()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the step to what was collected before, and log an overview of it."""
        if self._collector is None or state.global_step % self.every:
            return
        moments = merged(together(self._collector.take))
        numbers = overview(moments, self._groups)
        step = of_training_step(moments, kwargs["model"], state.global_step)
        if step is None:
            logger.warning("Step %d has activations that are not finite: it is left out of the statistics.", state.global_step)
            return
        self._so_far = step if self._so_far is None else self._so_far + step
        log_numbers(self.trainer, control, "statistics", numbers)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put what was collected so far into the checkpoint."""
        if (so_far := self._so_far) is not None:
            in_main(lambda: so_far.save(file_to_save(self.trainer, self, "statistics")))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave no hook behind."""
        self._stop()

    def _stop(self) -> None:
        """Take all hooks off the model."""
        if self._collector is not None:
            self._collector.stop()
