"""Evolve a mask while a model is trained."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_calls
from hf_untangle.callbacks.interval import check_every, check_whole_in_each_process, is_due, log_numbers
from hf_untangle.callbacks.run import file_of_best, file_to_resume, file_to_save, model_of, run_of
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.distributed import in_main
from hf_untangle.errors import StatisticsError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.nets.keywords import NeuronNetsSettings
from hf_untangle.nets.neuron_evolution import NeuronEvolution
from hf_untangle.nets.search_config import NeuronNetsConfig

logger = logging.getLogger("hf_untangle")


@checked_calls
class NetsCallback(TrainerCallback):
    """Masks and parameters in tandem: training continues under the best mask, and masks are judged on the weights as they are.

    Every few optimizer steps the population is judged and bred once. The masks act through hooks, under which a compiled model
    runs uncompiled, and no weight is written to: `callback.mask` is what was found, for `masked` or `remove_` once training
    has ended. The population is saved in every checkpoint, and a resumed run continues with it; when the best checkpoint is
    loaded at the end, so is its mask. Under several processes all of them evolve the same population.

        callback = NetsCallback(trainer, blocks, every=10, population=8)
        trainer.add_callback(callback)
    """

    def __init__(
        self,
        trainer: Trainer,
        retain: TokenBlocks,
        *,
        every: int = 10,
        forget: TokenBlocks | None = None,
        config: NeuronNetsConfig | str = "default",
        **settings: Unpack[NeuronNetsSettings],
    ) -> None:
        """Choose what masks are judged on, and when.

        Args:
            trainer: The trainer that this is added to; its `log` takes the numbers to where the run reports to.
            retain: Blocks whose loss is to stay low.
            every: Optimizer steps between two generations.
            forget: Blocks whose loss is to rise, weighed by the setting forget_weight.
            config: Settings of the search, or the name of a preset; `generations` does not count here.
            **settings: Fields of `NeuronNetsConfig` that override `config`.

        Raises:
            ConfigError: A setting is unknown, out of its range, or at odds with another; or the trainer splits weights.
            ArchitectureError: The model has no neuron groups.
        """
        check_every(every)
        check_whole_in_each_process(trainer, "Evolving masks while a model is trained")
        self.trainer, self.every = trainer, every
        self._config = NeuronNetsConfig.resolve(config, **settings)
        self._retain, self._forget = retain, forget
        self._groups = neuron_groups(model_of(trainer))
        self._evolution = self._begun(model_of(trainer))
        self._applied = ExitStack()
        run_of(trainer).endings.append(self._applied.close)

    @property
    def mask(self) -> NeuronMask:
        """The best mask so far."""
        return self._evolution.mask

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Draw the population, or read that of the checkpoint, and train under its best mask."""
        self._applied.close()
        self._evolution = self._begun(kwargs["model"])
        self._read(file_to_resume(self.trainer, self, "nets"))
        self._apply(kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Judge and breed, without the mask that training runs under."""
        if not is_due(state, self.every):
            return
        self._applied.close()
        try:
            generation = self._evolution.advance()
        except StatisticsError as error:
            logger.warning("Step %d: the masks stay as they are. %s", state.global_step, error)
            return
        finally:
            self._apply(kwargs["model"])
        numbers = {"fitness": generation.fitness, "loss": generation.loss, "density": generation.density}
        log_numbers(self.trainer, control, "nets", numbers)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the population into the checkpoint."""
        in_main(lambda: self._evolution.save(file_to_save(self.trainer, self, "nets")))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the hooks away, and go back to the mask of the checkpoint that was loaded, if one was."""
        self._applied.close()
        self._read(file_of_best(self.trainer, self, "nets"))

    def _begun(self, model: Any) -> NeuronEvolution:
        """A population of its first generation."""
        below = model_below(model)
        search = {"config": self._config, "forget": self._forget, "groups": self._groups}
        return NeuronEvolution(below, self._retain, **search, with_others=False)

    def _read(self, file: Path | None) -> None:
        """Continue with the population of a checkpoint, where there is one."""
        if file is not None and file.is_file():
            self._evolution.load(file)
        elif file is not None:
            logger.warning("There is no `%s`: masks evolve from here on.", file)

    def _apply(self, model: Any) -> None:
        """Silence what the best mask removes, until the stack is closed."""
        self._applied.enter_context(masked(model_below(model), self.mask))
