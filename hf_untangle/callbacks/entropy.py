"""Watch the entropy of neurons while a model is trained, and mask the least of them if asked to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.adapters import groups_below, model_below
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.callbacks.mask import MaskCallback
from hf_untangle.entropy.neuron_masks import entropy_mask
from hf_untangle.entropy.overview import entropy_quantiles
from hf_untangle.entropy.watch import BitWatch, Phase, drift_scalars, scalars
from hf_untangle.errors import ConfigError
from hf_untangle.importance.entropy import entropy
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.reporting.entropy_plots import entropy_histograms, entropy_over_time
from hf_untangle.statistics.moments import Moments


class EntropyCallback(MaskCallback):
    """Logs how much neurons say, epoch by epoch, from the batches that training and evaluation run anyway.

    Quartiles of entropy over all neurons and the median of every group, how many neurons are always on or always off, and how
    far their bits drift from training to evaluation data. Figures go into the output folder. Training is bit for bit what it
    is without the callback, unless a share is to be masked.

        trainer.add_callback(EntropyCallback(log=trainer.log))
        trainer.add_callback(EntropyCallback(log=trainer.log, mask_share=0.05, every=2))  # after every second epoch
    """

    def __init__(
        self,
        *,
        groups: tuple[NeuronGroup, ...] | None = None,
        log: Callable[[dict[str, float]], None] | None = None,
        figures: bool = True,
        mask_share: float = 0.0,
        every: int | None = None,
    ) -> None:
        """Choose what to watch, and whether to mask.

        Args:
            groups: The model's neuron groups; found when training begins if None.
            log: Where numbers go, such as `trainer.log`, which tells every reporter; the trainer's history alone if None.
            figures: Whether to draw.
            mask_share: Share of the FFN neurons of every layer, those of the lowest entropy in the last epoch, to remove and to
                hold at zero from then on; none when 0.
            every: Epochs between two removals, each of which goes by the entropies of its time; one at the end when None.

        Raises:
            ConfigError: The share is not from 0 to below 1, or `every` is not positive.
        """
        if not 0 <= mask_share < 1 or (every is not None and every < 1):
            raise ConfigError(
                f"mask_share must be from 0 to below 1 and every at least 1 epoch, but {mask_share} and {every} came."
            )
        super().__init__(NeuronMask({}, {}, ""), groups)
        self.log, self.figures, self.mask_share, self.every = log, figures, mask_share, every
        self.history: dict[Phase, list[tuple[float, Tensor]]] = {"train": [], "eval": []}
        self._watch: BitWatch | None = None
        self._last: dict[str, Moments] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Begin to watch."""
        below = model_below(kwargs["model"])
        self.groups = groups_below(kwargs["model"]) if self.groups is None else self.groups
        self.mask = NeuronMask.keep_all(self.groups, str(below.name_or_path))
        super().on_train_begin(args, state, control, **kwargs)
        self._watch = BitWatch(below, self.groups)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Say what neurons did in the epoch, and remove some if it is time."""
        if self._watch is None or not (moments := self._watch.take("train")):
            return
        self._last = moments
        self._tell(args, state, "train", moments)
        if self.mask_share and self.every is not None and round(state.epoch or 0) % self.every == 0:
            self._remove(args, state, control, **kwargs)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Say what neurons did on the evaluation data, and how far they drifted."""
        if self._watch is None or not (moments := self._watch.take("eval")):
            return
        self._tell(args, state, "eval", moments)
        if self._last:
            self._log(state, drift_scalars(self._last, moments))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remove neurons if they are to go at the end, and take the hooks away."""
        if self.mask_share and self.every is None and self._last:
            self._remove(args, state, control, **kwargs)
        super().on_train_end(args, state, control, **kwargs)
        if self._watch is not None:
            self._watch.close()
        self._watch = None

    def _remove(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remove the neurons of the lowest entropy, and hold them at zero with those that went before."""
        if self.groups is not None:
            self.mask = entropy_mask(self.mask, self._last, self.groups, self.mask_share)
        super().on_train_begin(args, state, control, **kwargs)

    def _tell(self, args: TrainingArguments, state: TrainerState, phase: Phase, moments: dict[str, Moments]) -> None:
        """Log the numbers of a phase and draw its figures."""
        self._log(state, scalars(moments, phase))
        self.history[phase].append((float(state.epoch or 0), entropy_quantiles(moments)))
        if self.figures and state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / "entropy"
            folder.mkdir(parents=True, exist_ok=True)
            histograms = entropy_histograms({group: entropy(one) for group, one in moments.items()})
            histograms.savefig(folder / f"{phase}-epoch-{state.epoch or 0:g}.svg")
            quantiles = {name: torch.stack([values for _, values in seen]) for name, seen in self.history.items() if seen}
            times = {name: [epoch for epoch, _ in seen] for name, seen in self.history.items() if seen}
            entropy_over_time(times, quantiles).savefig(folder / "over-time.svg")

    def _log(self, state: TrainerState, values: dict[str, float]) -> None:
        """Hand numbers to the trainer's reporters, or to its history alone."""
        if self.log is not None:
            self.log(values)
        else:
            state.log_history.append(values | {"step": state.global_step})
