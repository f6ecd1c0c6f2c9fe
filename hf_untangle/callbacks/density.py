"""Watch the density of a model while it is trained."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.callbacks.due import own_log_stays_due
from hf_untangle.density.measure import Evaluate, Measure
from hf_untangle.density.snapshot import snapshot
from hf_untangle.density.sweep_config import SweepConfig

GRID = tuple(tick / 10 for tick in range(1, 11))


class DensityCallback(TrainerCallback):
    """Logs, every so many optimizer steps, how much of the model could be pruned and how much of it is in use.

    The training does not notice: no gradient is taken, and weights, modes and random states are put back. Steps are counted
    by the trainer, so that accumulated gradients and resumed runs change nothing. Under several processes each of them
    measures its own copy of the model at the same steps, and the trainer logs once.

        trainer.add_callback(DensityCallback(evaluate, every=500, log=trainer.log))
    """

    def __init__(
        self,
        evaluate: Evaluate | Measure,
        *,
        every: int = 500,
        grid: Sequence[float] = GRID,
        max_share_of_time: float = 0.1,
        log: Callable[[dict[str, float]], None] | None = None,
        **settings: Any,
    ) -> None:
        """Choose what to measure, and when.

        Args:
            evaluate: What judges the model, as for `density.sweep`.
            every: Optimizer steps between two measurements.
            grid: The shares that are tried.
            max_share_of_time: How much of the training's time measuring may take. A measurement that would take more, as far
                as the last one tells, is left out; the first one is always made.
            log: Where numbers go, such as `trainer.log`, which tells every reporter; the trainer's history alone if None.
            **settings: Other fields of `SweepConfig`.

        Raises:
            ConfigError: A setting is unknown or out of its range.
        """
        self.evaluate = evaluate
        self.every = every
        self.settings = SweepConfig(grid=tuple(grid), refine=0.0).with_settings(**settings)
        self.max_share_of_time = max_share_of_time
        self.log = log
        self._began = self._spent = self._last = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock."""
        self._began, self._spent, self._last = time.perf_counter(), 0.0, 0.0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure, if it is time and there is time."""
        if state.global_step % self.every or not self._affordable():
            return
        start = time.perf_counter()
        values = snapshot(kwargs["model"], self.evaluate, self.settings)
        self._last = time.perf_counter() - start
        self._spent += self._last
        values |= {"density/seconds": self._last, "density/share_of_time": self._share(0.0)}
        if self.log is not None:
            with own_log_stays_due(control):
                self.log(values)
        else:
            state.log_history.append(values | {"step": state.global_step})

    def _affordable(self) -> bool:
        """Whether another measurement stays inside the budget, as the first process sees it, so that all agree."""
        return broadcast_object_list([self._share(self._last) <= self.max_share_of_time or not self._spent])[0]

    def _share(self, more: float) -> float:
        """The share of the time since the beginning that measuring took, with so many seconds more."""
        return (self._spent + more) / max(time.perf_counter() - self._began + more, 1e-9)
