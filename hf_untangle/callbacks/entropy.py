"""Watch the entropy of neurons while a model is trained, and mask the least of them if asked to."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.callbacks.due import own_log_stays_due
from hf_untangle.callbacks.mask import MaskCallback
from hf_untangle.entropy.neuron_masks import entropy_mask
from hf_untangle.entropy.overview import drift, entropy_quantiles, entropy_scalars
from hf_untangle.errors import ConfigError
from hf_untangle.importance.entropy import entropy
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.reporting.entropy_plots import entropy_histograms, entropy_over_time
from hf_untangle.statistics.moments import Moments
from hf_untangle.statistics.training_collector import PassCollector

Phase = Literal["train", "eval"]


class EntropyCallback(MaskCallback):
    """Logs how much neurons say, epoch by epoch, from the batches that training and evaluation run anyway.

    Quartiles of entropy over all neurons and the median of every group, how many neurons are always on or always off, and how
    far their bits drift from training to evaluation data. Figures go into the output folder. Training is bit for bit what it
    is without the callback, unless a share is to be masked.

        trainer.add_callback(EntropyCallback(trainer))
        trainer.add_callback(EntropyCallback(trainer, mask_share=0.05, every=2))  # removes after every second epoch
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        groups: tuple[NeuronGroup, ...] | None = None,
        figures: bool = True,
        mask_share: float = 0.0,
        every: int | None = None,
    ) -> None:
        """Choose what to watch, and whether to mask.

        Args:
            trainer: The trainer that this is added to; its `log` takes the numbers to where the run reports to.
            groups: The model's neuron groups; found when training begins if None.
            figures: Whether to draw.
            mask_share: Share of the FFN neurons of every layer, those of the lowest entropy in the last epoch, to remove and to
                hold at zero from then on; none when 0.
            every: Epochs between two removals, each of which goes by the entropies of its time; one at the end when None.

        Raises:
            ConfigError: The share is not from 0 to below 1, or `every` is not positive.
        """
        if not 0 <= mask_share < 1 or (every is not None and every < 1):
            raise ConfigError(f"mask_share must be from 0 to below 1 and every at least 1 epoch, got {mask_share} and {every}.")
        super().__init__(NeuronMask({}, {}, ""), groups)
        self.trainer, self.figures, self.mask_share, self.every = trainer, figures, mask_share, every
        self.history: dict[Phase, list[tuple[float, Tensor]]] = {"train": [], "eval": []}
        self._passes: dict[Phase, PassCollector] = {}
        self._last: dict[str, Moments] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Begin to watch."""
        self.groups = neuron_groups(kwargs["model"]) if self.groups is None else self.groups
        if not self.mask:
            self.mask = NeuronMask.keep_all(self.groups, str(model_below(kwargs["model"]).name_or_path))
        super().on_train_begin(args, state, control, **kwargs)
        model, groups = kwargs["model"], self.groups
        self._passes = {"train": PassCollector(model, groups), "eval": PassCollector(model, groups)}
        self._passes["eval"].watch_next()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the step's first pass, as it is none of an evaluation."""
        self._passes["eval"].stop()
        self._passes["train"].watch_next()

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the next pass of the same step."""
        self._passes["train"].watch_next()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the next pass in case that it is one of an evaluation."""
        self._passes["eval"].watch_next()

    def on_prediction_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the next pass of the evaluation, where it is one during a training."""
        if self._passes:
            self._passes["eval"].watch_next()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Say what neurons did in the epoch, and remove some if it is time."""
        if not (moments := self._take("train")):
            return
        self._last = moments
        with own_log_stays_due(control):
            self._tell(args, state, "train", moments)
        if self.mask_share and self.every is not None and round(state.epoch or 0) % self.every == 0:
            self._remove(args, state, control, **kwargs)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Say what neurons did on the evaluation data, and how far they drifted."""
        if not (moments := self._take("eval")):
            return
        self._tell(args, state, "eval", moments)
        if self._last:
            distances = {f"entropy/drift/{group}": drift({group: one}, moments) for group, one in self._last.items()}
            self.trainer.log({"entropy/drift": drift(self._last, moments)} | distances)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remove neurons if they are to go at the end, and take the hooks away."""
        if self.mask_share and self.every is None and self._last:
            self._remove(args, state, control, **kwargs)
        super().on_train_end(args, state, control, **kwargs)
        for passes in self._passes.values():
            passes.stop()
        self._passes = {}

    def _remove(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remove the neurons of the lowest entropy, and hold them at zero with those that went before."""
        if self.groups is not None:
            self.mask = entropy_mask(self.mask, self._last, self.groups, self.mask_share)
        super().on_train_begin(args, state, control, **kwargs)

    def _tell(self, args: TrainingArguments, state: TrainerState, phase: Phase, moments: dict[str, Moments]) -> None:
        """Log the numbers of a phase and draw its figures."""
        self.trainer.log(entropy_scalars(moments, f"entropy/{phase}"))
        self.history[phase].append((float(state.epoch or 0), entropy_quantiles(moments)))
        if self.figures and state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / "entropy"
            folder.mkdir(parents=True, exist_ok=True)
            histograms = entropy_histograms({group: entropy(one) for group, one in moments.items()})
            histograms.savefig(folder / f"{phase}-epoch-{state.epoch or 0:g}.svg")
            quantiles = {name: torch.stack([values for _, values in seen]) for name, seen in self.history.items() if seen}
            times = {name: [epoch for epoch, _ in seen] for name, seen in self.history.items() if seen}
            entropy_over_time(times, quantiles).savefig(folder / "over-time.svg")

    def _take(self, phase: Phase) -> dict[str, Moments]:
        """The sums of a phase since the last time, of the groups that ran."""
        found = self._passes[phase].take() if self._passes else {}
        return {group: moments for group, moments in found.items() if int(moments.count)}
