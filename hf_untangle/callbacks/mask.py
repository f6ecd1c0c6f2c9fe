"""Keep removed neurons removed while a model is trained on."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.masks.hold_removed import Held, held_parameters, zero_gradients_, zero_weights_
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_in_memory


class MaskCallback(TrainerCallback):
    """Holds removed neurons at exactly zero through any training, with all that reads and computes them.

    Most of what belongs to a removed neuron has no gradient. What can grow back without this callback: the column of an
    attention neuron whose value row a kept query head needs, neurons whose activation function is not zero at zero, and
    whatever an adapter, an optimizer with a history or a noisy one writes there. Their gradients are set to zero before every
    optimizer step, so that its state stays empty too, and their weights after it. Under LoRA the adapter's factors are held,
    so that the merged weights are zero as well.

        trainer = Trainer(model, ..., callbacks=[MaskCallback(mask)])
    """

    def __init__(self, mask: NeuronMask, groups: tuple[NeuronGroup, ...] | None = None) -> None:
        """Hold the neurons that a mask removes.

        Args:
            mask: Which neurons stay.
            groups: The model's neuron groups; found when training begins if None.
        """
        self.mask = mask
        self.groups = groups
        self._held: list[Held] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Find what belongs to removed neurons, and set it to zero."""
        model = kwargs["model"]
        groups = neuron_groups(model) if self.groups is None else self.groups
        check_in_memory(model_below(model), groups)
        self._held = held_parameters(model, self.mask, groups)
        zero_weights_(self._held)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep gradients of removed neurons out of the optimizer's state."""
        zero_gradients_(self._held)

    def on_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take back whatever the optimizer wrote."""
        zero_weights_(self._held)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let the parameters go."""
        self._held = []
