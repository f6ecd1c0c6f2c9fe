"""Watch the density of a model while it is trained."""

import logging
from collections.abc import Sequence
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.arguments import checked_calls
from hf_untangle.callbacks.interval import check_every, check_whole_in_each_process, is_due, log_numbers
from hf_untangle.callbacks.run import file_to_resume, file_to_save, model_of, tokenizer_of
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.density.measure import Evaluate, Measure, as_measure
from hf_untangle.density.snapshot import TimeBudget, check_snapshot, snapshot
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.density.tolerance import TOLERANCES
from hf_untangle.distributed import in_main
from hf_untangle.errors import UntangleError

GRID = tuple(tick / 10 for tick in range(1, 11))

logger = logging.getLogger("hf_untangle")


@checked_calls
class DensityCallback(TrainerCallback):
    """Logs, every few optimizer steps, how much of the model could be pruned and how much of it is in use.

    The training does not notice: no gradient is taken, and weights, modes and random states are put back. Under several
    processes each of them measures its own copy of the model at the same steps, and the trainer logs once. What measuring
    has cost is saved in every checkpoint, so that a resumed run keeps to the same share of time.

        trainer.add_callback(DensityCallback(trainer, evaluate, every=500))
    """

    def __init__(
        self,
        trainer: Trainer,
        evaluate: Evaluate | Measure | CorpusSource,
        *,
        every: int = 500,
        grid: Sequence[float] = GRID,
        max_share_of_time: float = 0.1,
        config: SweepConfig | str = "default",
        **settings: Any,
    ) -> None:
        """Choose what to measure, and when.

        Args:
            trainer: The trainer that this is added to; its `log` takes the numbers to where the run reports to.
            evaluate: What judges the model, as for `density.sweep`: a function of the model, a `Measure`, or a corpus. It is
                called now too, on the model as it is.
            every: Optimizer steps between two measurements.
            grid: The shares that are tried.
            max_share_of_time: How much of the training's time measuring may take. A measurement that would take more, as far
                as the last one tells, is left out; the first one is always made.
            config: Other settings of the sweep, or the name of a preset.
            **settings: Fields of `SweepConfig` that override `config`.

        Raises:
            ConfigError: A setting is unknown or out of its range, or the trainer splits weights between processes.
            StatisticsError: The metric is no finite number.
            ArchitectureError: There is nothing that can be pruned.
            MaskError: The weights are quantised or not loaded.
        """
        check_every(every)
        check_whole_in_each_process(trainer, "A sweep")
        self.trainer, self.every, model = trainer, every, model_of(trainer)
        self.config = SweepConfig.resolve(config, **{"grid": tuple(grid), "refine": 0.0} | settings)
        self.budget = TimeBudget(max_share_of_time)
        self.measure = as_measure(model, evaluate, tokenizer_of(trainer), TOLERANCES[self.config.tolerance].metric)
        check_snapshot(model, self.measure, self.config)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock, or continue that of the checkpoint."""
        self.budget.begin()
        file = file_to_resume(self.trainer, self, "density")
        if file is not None and file.is_file():
            self.budget.load(file)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure, if it is time and there is time."""
        if not is_due(state, self.every) or not self.budget.allows_another():
            return
        try:
            with self.budget.spent():
                values = snapshot(kwargs["model"], self.measure, self.config)
        except UntangleError as error:
            logger.warning("Step %d: density is not measured. %s", state.global_step, error)
            return
        times = {"seconds": self.budget.last, "share_of_time": self.budget.share()}
        log_numbers(self.trainer, control, "density", values | times)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put what measuring has cost into the checkpoint."""
        in_main(lambda: self.budget.save(file_to_save(self.trainer, self, "density")))
