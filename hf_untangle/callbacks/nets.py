"""Evolve a mask while a model is trained."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.callbacks.due import own_log_stays_due
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.masks.apply import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.nets.neuron_evolution import NeuronEvolution
from hf_untangle.nets.search_config import NeuronNetsConfig


class NetsCallback(TrainerCallback):
    """Masks and parameters in tandem: training goes on under the best mask, and masks are judged on the weights as they are.

    Every so many optimizer steps the population is judged and bred once. The masks act through hooks, and no weight is
    written to: `callback.mask` is what was found, for `masked` or `remove_` once training has ended. The population is part of
    every checkpoint, so that a resumed run goes on with it; under several processes all of them evolve the same one.

        callback = NetsCallback(blocks, every=10, population=8)
        trainer.add_callback(callback)
    """

    def __init__(
        self,
        retain: TokenBlocks,
        *,
        every: int = 10,
        forget: TokenBlocks | None = None,
        log: Callable[[dict[str, float]], None] | None = None,
        **settings: Any,
    ) -> None:
        """Choose what masks are judged on, and when.

        Args:
            retain: Blocks whose loss is to stay low.
            every: Optimizer steps between two generations.
            forget: Blocks whose loss is to rise, weighed by the setting forget_weight.
            log: Where numbers go, such as `trainer.log`; nowhere when None.
            **settings: Fields of `NeuronNetsConfig`; `generations` does not count here.

        Raises:
            ConfigError: A setting is unknown, out of its range, or at odds with another.
        """
        self.every = every
        self._config = NeuronNetsConfig.resolve(**settings)
        self._retain, self._forget, self._log = retain, forget, log
        self._evolution: NeuronEvolution | None = None
        self._applied = ExitStack()

    @property
    def mask(self) -> NeuronMask:
        """The best mask so far; it is there once training has begun."""
        assert self._evolution is not None
        return self._evolution.mask

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Draw the population, or read that of the checkpoint, and train under its best mask."""
        self._evolution = NeuronEvolution(
            kwargs["model"], self._retain, config=self._config, forget=self._forget, with_others=False
        )
        saved = _file(args, state)
        if saved.exists():
            self._evolution.load(saved)
        self._apply(kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Judge and breed, without the mask that training runs under."""
        if self._evolution is None or state.global_step % self.every:
            return
        self._applied.close()
        generation = self._evolution.advance()
        self._apply(kwargs["model"])
        if self._log is not None:
            with own_log_stays_due(control):
                self._log(
                    {"nets_fitness": generation.fitness, "nets_loss": generation.loss, "nets_density": generation.density}
                )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the population into the checkpoint."""
        if self._evolution is not None and state.is_world_process_zero:
            self._evolution.save(_file(args, state))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the hooks away."""
        self._applied.close()

    def _apply(self, model: Any) -> None:
        """Silence what the best mask removes, until the stack is closed."""
        self._applied.enter_context(masked(model, self.mask))


def _file(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the population of a checkpoint lies."""
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / "nets.safetensors"
