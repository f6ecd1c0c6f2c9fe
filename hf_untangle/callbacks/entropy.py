"""Watch the entropy of neurons while a model is trained, and remove the least of them if asked to."""

import logging
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_calls
from hf_untangle.callbacks.interval import check_every, is_due, log_numbers
from hf_untangle.callbacks.mask import checked_groups, saved_mask
from hf_untangle.callbacks.run import file_of_best, file_to_resume, file_to_save, model_of, run_of
from hf_untangle.distributed import in_main
from hf_untangle.entropy.neuron_masks import check_shares, entropy_mask
from hf_untangle.entropy.neuron_record import NeuronEntropyConfig
from hf_untangle.entropy.watch import EntropyWatch, Phase
from hf_untangle.errors import ConfigError
from hf_untangle.masks.hold_removed import RemovedNeurons, held_parameters
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.reporting.entropy_plots import draw_watch

logger = logging.getLogger("hf_untangle")


@checked_calls
class EntropyCallback(TrainerCallback):
    """Logs how much neurons say, from the batches that training and evaluation run anyway.

    Quartiles of entropy over all neurons and the median of every group, how many neurons are always on or always off, and how
    far their bits drift from training to evaluation data. Figures go into the output folder. Training is bit for bit what it
    is without the callback, unless a share is to be removed; only a compiled model runs uncompiled. What was seen and which
    neurons were removed is saved in every checkpoint: a resumed run continues from there, and `callback.mask` is that of the
    best checkpoint when it is loaded at the end.

        trainer.add_callback(EntropyCallback(trainer))
        trainer.add_callback(EntropyCallback(trainer, mask_share=0.05, every=200))  # removes every 200 steps
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        every: int | None = None,
        mask_share: float = 0.0,
        figures: bool = True,
        groups: tuple[NeuronGroup, ...] | None = None,
    ) -> None:
        """Choose what to watch, and whether to remove neurons.

        Args:
            trainer: The trainer that this is added to; its `log` takes the numbers to where the run reports to.
            every: Optimizer steps between two looks, each at the passes since the one before; with `mask_share`, each look is
                followed by a removal. When None, a look at the end of every epoch, and one removal at the end of training.
            mask_share: Share of the FFN neurons of every layer, those of the lowest entropy in the last look, to remove and to
                hold at zero from then on; none when 0.
            figures: Whether to draw.
            groups: The model's neuron groups; found by tracing the model when None.

        Raises:
            ConfigError: The share is not from 0 to below 1 or removes no neuron, `every` is not positive, or there is a share
                and the trainer splits weights between processes.
            MaskError: There is a share, and an adapter is of another kind than LoRA, or weights cannot be edited.
            ArchitectureError: The model has no neuron groups.
        """
        if every is not None:
            check_every(every)
        if not 0 <= mask_share < 1:
            raise ConfigError(f"mask_share must be from 0 to below 1, got {mask_share}. Pass a share such as 0.05.")
        self.trainer, self.every, self.mask_share, self.figures = trainer, every, mask_share, figures
        self.groups = checked_groups(trainer, groups) if mask_share else groups or neuron_groups(model_of(trainer))
        self.mask = NeuronMask.keep_all(self.groups, str(model_below(model_of(trainer)).name_or_path))
        if mask_share:
            check_shares(self.groups, NeuronEntropyConfig(shares=(mask_share,)))
            held_parameters(
                model_of(trainer), self.mask.with_kept({name: ~kept for name, kept in self.mask.items()}), self.groups
            )
        self.watch = EntropyWatch(model_of(trainer), self.groups)
        self._removed: RemovedNeurons | None = None
        run_of(trainer).endings.append(lambda: self.watch.stop())

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Begin to watch, or continue from the checkpoint where the run is resumed from one."""
        self.watch.stop()
        self.watch = EntropyWatch(kwargs["model"], self.groups)
        file = file_to_resume(self.trainer, self, "entropy")
        if file is not None and file.is_file():
            self.watch.load(file)
        elif file is not None:
            logger.warning("The run is resumed, but there is no `%s`: entropies are of the steps from here on.", file)
        if self.mask_share:
            self.mask = saved_mask(file_to_resume(self.trainer, self, "entropy-mask")) or self.mask
            self._removed = RemovedNeurons(kwargs["model"], self.mask, self.groups)
        self.watch.passes["eval"].watch()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the passes of the step."""
        self.watch.passes["eval"].stop()
        self.watch.passes["train"].watch()

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count the pass that ended."""
        self.watch.passes["train"].count()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the last pass of the step, and keep gradients of removed neurons out of the optimizer's state."""
        self.watch.passes["train"].count()
        self.watch.passes["train"].stop()
        if self._removed is not None:
            self._removed.zero_gradients_()

    def on_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take back whatever the optimizer wrote into removed neurons."""
        if self._removed is not None:
            self._removed.zero_weights_()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at what neurons did if it is time, remove some, and watch for an evaluation."""
        if self.every is not None and (is_due(state, self.every) or state.global_step >= state.max_steps):
            self._look("train", control)
            if self.mask_share and is_due(state, self.every):
                self._remove(control, self.watch)
        self.watch.passes["eval"].watch()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at what neurons did in the epoch, unless looks come every few steps, and watch for an evaluation."""
        if self.every is None:
            self._look("train", control)
        self.watch.passes["eval"].watch()

    def on_prediction_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count the pass that ended."""
        self.watch.passes["eval"].count()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at what neurons did on the evaluation data, and how far they drifted."""
        self.watch.passes["eval"].stop()
        self._look("eval", control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put what was seen and what was removed into the checkpoint."""
        self.watch.save(file_to_save(self.trainer, self, "entropy"))
        if self.mask_share:
            in_main(lambda: self.mask.save(file_to_save(self.trainer, self, "entropy-mask")))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Go back to the mask of the checkpoint that was loaded, if one was; remove neurons if they are to go at the end."""
        self.watch.stop()
        if self._removed is None:
            return
        watch = self.watch
        if (best := saved_mask(file_of_best(self.trainer, self, "entropy-mask"))) is not None:
            self.mask = best
            self._removed.return_to_(best)
            watch = EntropyWatch(kwargs["model"], self.groups)
            watch.load(file_of_best(self.trainer, self, "entropy") or "")
        if self.every is None:
            self._remove(control, watch)
        self._removed = None

    def _look(self, phase: Phase, control: TrainerControl) -> None:
        """Log the numbers of a phase since its last look, and draw its figures."""
        time = float(self.trainer.state.epoch or 0)
        if not (moments := self.watch.look(phase, time)):
            return
        log_numbers(self.trainer, control, "entropy", self.watch.numbers(phase, moments))
        if self.figures and self.trainer.state.is_world_process_zero:
            draw_watch(Path(str(self.trainer.args.output_dir)) / "entropy", phase, time, moments, self.watch.history)

    def _remove(self, control: TrainerControl, watch: EntropyWatch) -> None:
        """Remove the neurons of the lowest entropy, and hold them at zero with those that were removed before."""
        newest = watch.newest()
        ran = tuple(group for group in self.groups if group.name in newest)
        if self._removed is None or not ran:
            return
        self.mask = entropy_mask(self.mask, newest, ran, self.mask_share)
        self._removed.remove_(self.mask)
        log_numbers(self.trainer, control, "entropy", {"removed": self.mask.removed()})
