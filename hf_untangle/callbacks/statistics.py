"""Statistics of the batches that a model is trained on, from the training's own forward passes."""

import logging
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.callbacks.due import own_log_stays_due
from hf_untangle.distributed import together
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.models import revision_of
from hf_untangle.statistics.activations import ActivationStatistics
from hf_untangle.statistics.collect import merged
from hf_untangle.statistics.moments import Moments
from hf_untangle.statistics.training_collector import PassCollector, overview

logger = logging.getLogger("hf_untangle")

FILE = "activation-statistics.safetensors"
"""What the statistics so far are called in the folder of a checkpoint."""


class StatisticsCallback(TrainerCallback):
    """Collects statistics of every few optimizer steps, all of their passes and all processes, and logs an overview of each.

    No pass is run twice. What is collected is written beside every checkpoint, and a run that is resumed goes on from there.

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
            every: How many optimizer steps apart the steps are that are watched.
            groups: Which neuron groups to watch; all of them when None.
            roots: Whether to sum sqrt|z| too, which the importance `sqrt` needs.

        Raises:
            ConfigError: `every` is not positive.
        """
        if every < 1:
            raise ConfigError(f"Statistics must be collected every so many steps, at least 1, got every={every}.")
        self._trainer = trainer
        self._every = every
        self._groups = groups
        self._roots = roots
        self._collector: PassCollector | None = None
        self._watching = False
        self._so_far: ActivationStatistics | None = None

    @property
    def statistics(self) -> ActivationStatistics:
        """The statistics of all watched steps together."""
        if self._so_far is None:
            raise StatisticsError("No step has been watched yet: train at least `every` steps before asking for statistics.")
        return self._so_far

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Find the neurons, and go on from the checkpoint where the run is resumed from one."""
        self._groups = neuron_groups(kwargs["model"]) if self._groups is None else self._groups
        self._collector = PassCollector(kwargs["model"], self._groups, roots=self._roots)
        self._so_far = _read(_file(args, state)) if state.global_step else None

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the first pass of the step, if it is one to watch."""
        self._watching = (state.global_step + 1) % self._every == 0
        self._watch_next()

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the next pass of the same step."""
        self._watch_next()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the step to what was collected before, and log an overview of it."""
        if self._watching and self._collector is not None and self._groups is not None:
            moments = merged(together(self._collector.take))
            numbers = overview(moments, self._groups)
            step = self._described(moments, kwargs["model"], state.global_step, int(numbers["statistics_tokens"]))
            self._so_far = step if self._so_far is None else self._so_far + step
            with own_log_stays_due(control):
                self._trainer.log(numbers)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write what was collected so far into the checkpoint."""
        if self._so_far is not None and state.is_world_process_zero:
            self._so_far.save(_file(args, state))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave no hook behind."""
        if self._collector is not None:
            self._collector.stop()

    def _watch_next(self) -> None:
        """Watch the next pass, if the step is one to watch."""
        if self._watching and self._collector is not None:
            self._collector.watch_next()

    def _described(self, moments: dict[str, Moments], model: Any, step: int, tokens: int) -> ActivationStatistics:
        """The statistics of one step, with where they come from."""
        below = model_below(model)
        record = {"corpus": "training batches", "step": step, "tokens": tokens}
        revision = revision_of(below)
        return ActivationStatistics(
            moments, str(below.name_or_path), revision, str(below.dtype).removeprefix("torch."), (record,)
        )


def _file(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the statistics of a checkpoint are."""
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / FILE


def _read(file: Path) -> ActivationStatistics | None:
    """What was collected before a checkpoint, if it is there."""
    if file.exists():
        return ActivationStatistics.load(file)
    logger.warning("The run is resumed, but there is no `%s`: statistics are of the steps from here on.", file)
    return None
