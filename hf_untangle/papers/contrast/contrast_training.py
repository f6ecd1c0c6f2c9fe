"""Training a k-contrast model with Hugging Face's `Trainer`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from hf_untangle.folders import temporary_folder
from hf_untangle.papers.contrast.configuration import ContrastConfig
from hf_untangle.papers.contrast.encoders import Items
from hf_untangle.papers.contrast.modeling import ContrastModel
from hf_untangle.papers.contrast.problems import ProblemDataset, draw_problems
from hf_untangle.randomness import random_state_kept

LOGS = 10
"""How often the loss is logged; the last time is the training loss that a model is judged by."""


@dataclass(frozen=True, eq=False)
class TrainedContrast:
    """A trained model, and whether it learnt anything."""

    model: ContrastModel
    loss: float
    """Mean training loss over the last tenth of the steps, in nats, noise and all."""
    choices: int
    """k, the choices in a problem."""

    @property
    def of_chance(self) -> float:
        """The loss as a share of ln k, that of a model that guesses."""
        return self.loss / math.log(self.choices)


def train_contrast(
    config: ContrastConfig,
    items: Items,
    *,
    choices: int = 10,
    steps: int = 2000,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainedContrast:
    """Train a model with Adam at a constant learning rate.

    Args:
        config: Sizes of the model.
        items: What problems are made of.
        choices: k, how many items are in a problem.
        steps: Updates of the weights.
        batch_size: Problems in an update.
        learning_rate: Of Adam.
        seed: For the weights, the problems and the noise.
        callbacks: For the `Trainer`.

    Returns:
        The model, in evaluation mode, and its training loss.

    Raises:
        CorpusError: There are fewer items than choices.
    """
    problems = draw_problems(len(items), choices, steps * batch_size, seed)
    with random_state_kept(), temporary_folder() as folder:
        set_seed(seed)
        model = ContrastModel(config)
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=0.0,
            logging_steps=max(1, steps // LOGS),
            save_strategy="no",
            report_to="none",
            seed=seed,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model, arguments, train_dataset=ProblemDataset(items, problems), callbacks=list(callbacks))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return TrainedContrast(model.eval(), losses[-1], choices)
