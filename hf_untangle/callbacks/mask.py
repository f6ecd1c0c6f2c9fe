"""Keep removed neurons removed while a model is trained on."""

from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_calls
from hf_untangle.callbacks.interval import check_whole_in_each_process
from hf_untangle.callbacks.run import file_of_best, file_to_resume, file_to_save, model_of
from hf_untangle.distributed import in_main
from hf_untangle.masks.hold_removed import RemovedNeurons, held_parameters
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_in_memory


@checked_calls
class MaskCallback(TrainerCallback):
    """Holds removed neurons at exactly zero through any training, with all that reads and computes them.

    Most of what belongs to a removed neuron has no gradient. What can grow back without this callback: the column of an
    attention neuron whose value row a kept query head needs, neurons whose activation function is not zero at zero, and
    whatever an adapter, an optimizer with a history or a noisy one writes there. Their gradients are set to zero before every
    optimizer step, so that its state stays empty too, and their weights after it. Under LoRA the adapter's factors are held,
    so that the merged weights are zero as well. The mask is saved in every checkpoint; a resumed run also holds what was
    removed there.

        trainer = Trainer(model, ...)
        trainer.add_callback(MaskCallback(trainer, mask))
    """

    def __init__(self, trainer: Trainer, mask: NeuronMask, *, groups: tuple[NeuronGroup, ...] | None = None) -> None:
        """Hold the neurons that a mask removes.

        Args:
            trainer: The trainer that this is added to.
            mask: Which neurons stay.
            groups: The model's neuron groups; found by tracing the model when None.

        Raises:
            MaskError: The mask is not this model's, an adapter is of another kind than LoRA, or weights cannot be edited.
            ConfigError: The trainer splits weights between processes.
            ArchitectureError: The model has no neuron groups.
        """
        self.trainer, self.mask = trainer, mask
        self.groups = checked_groups(trainer, groups)
        held_parameters(model_of(trainer), mask, self.groups)
        self._removed: RemovedNeurons | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Set removed neurons to zero, those of the checkpoint too where the run is resumed from one."""
        if (saved := saved_mask(file_to_resume(self.trainer, self, "mask"))) is not None:
            self.mask = self.mask & saved
        self._removed = RemovedNeurons(kwargs["model"], self.mask, self.groups)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep gradients of removed neurons out of the optimizer's state."""
        if self._removed is not None:
            self._removed.zero_gradients_()

    def on_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take back whatever the optimizer wrote."""
        if self._removed is not None:
            self._removed.zero_weights_()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the mask into the checkpoint."""
        in_main(lambda: self.mask.save(file_to_save(self.trainer, self, "mask")))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Set removed neurons to zero in the model that was loaded at the end, if one was, and let the parameters go."""
        if self._removed is not None and file_of_best(self.trainer, self, "mask") is not None:
            self._removed.zero_weights_()
        self._removed = None


def checked_groups(trainer: Trainer, groups: tuple[NeuronGroup, ...] | None) -> tuple[NeuronGroup, ...]:
    """Find the neuron groups of a model whose weights a callback is going to write to.

    Args:
        trainer: The trainer.
        groups: The groups, where they are known.

    Returns:
        The groups of the model below any adapter.

    Raises:
        MaskError: The weights cannot be edited.
        ConfigError: The trainer splits weights between processes.
        ArchitectureError: The model has no neuron groups.
    """
    check_whole_in_each_process(trainer, "Holding neurons at zero")
    found = neuron_groups(model_of(trainer)) if groups is None else groups
    check_in_memory(model_below(model_of(trainer)), found)
    return found


def saved_mask(file: Path | None) -> NeuronMask | None:
    """Read the mask of a checkpoint.

    Args:
        file: Where it is, if the run has a checkpoint.

    Returns:
        The mask; None where there is no such file.
    """
    return NeuronMask.load(file) if file is not None and file.is_file() else None
