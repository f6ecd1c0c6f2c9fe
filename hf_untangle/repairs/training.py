"""One training run on a retain corpus, by the Trainer of transformers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from hf_untangle.callbacks.progress import ProgressBarCallback
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.distributed import place
from hf_untangle.folders import temporary_folder
from hf_untangle.progress import track
from hf_untangle.randomness import random_state_kept
from hf_untangle.repairs.distillation import Teacher, mixed_target_loss

INPUTS = ("input_ids", "attention_mask")
"""What a causal language model reads of a batch."""


def train_(
    trainee: nn.Module,
    blocks: TokenBlocks,
    config: RepairConfig,
    *,
    compute: torch.dtype = torch.float32,
    teacher: Teacher | None = None,
    callbacks: Sequence[Callable[[Trainer], TrainerCallback]] = (),
    progress: bool = True,
) -> None:
    """Train the parameters that require gradients with the causal-LM loss, on all tokens or on answers alone.

    Args:
        trainee: A causal language model, with an adapter of peft or without, changed in place.
        blocks: The tokens; they come again when the steps need more.
        config: The settings.
        compute: In what the passes are computed where weights are float32: mixed precision when it is not float32.
        teacher: Whose predictions are the target, for the share that `config.distill` says.
        callbacks: Make the callbacks of the run, each from its trainer.
        progress: Whether to show a progress bar.
    """
    dataset: Any = blocks.training_rows()
    work: dict[str, Any] = {"kind": "training", "weight": config.passes * config.batch_size * config.block_size}
    bar = track(f"training on {blocks.corpus.name}", config.steps, unit="step", progress=progress, **work)
    seen: dict[str, Tensor] = {}
    mixed = None if teacher is None else partial(mixed_target_loss, teacher=teacher, share=config.distill, inputs=seen)
    with temporary_folder() as folder, random_state_kept(), _inputs_kept(trainee, seen), bar as opened:
        arguments = _arguments(str(folder), trainee, config, compute)
        counting = ProgressBarCallback(opened)
        trainer = Trainer(trainee, arguments, train_dataset=dataset, compute_loss_func=mixed, callbacks=[counting])
        for make in callbacks:
            trainer.add_callback(make(trainer))
        trainer.remove_callback(PrinterCallback)
        trainer.train()


@contextmanager
def _inputs_kept(model: nn.Module, seen: dict[str, Tensor]) -> Iterator[None]:
    """Keep what a model was last called with, which a loss function is not told."""

    def keep(_: nn.Module, __: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.clear()
        seen.update({name: value for name, value in kwargs.items() if name in INPUTS})

    handle = model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _arguments(folder: str, trainee: nn.Module, config: RepairConfig, compute: torch.dtype) -> TrainingArguments:
    """The settings in the words of transformers: nothing is saved, and nothing reported but the bar."""
    return TrainingArguments(
        output_dir=folder,
        max_steps=config.steps,
        learning_rate=config.rate,
        warmup_steps=int(config.warmup * config.steps),
        weight_decay=config.weight_decay,
        per_device_train_batch_size=config.batch_size,
        # Each of several processes runs its share of the passes of a step.
        gradient_accumulation_steps=max(1, round(config.passes / place()[1])),
        seed=config.seed,
        bf16=compute == torch.bfloat16,
        fp16=compute == torch.float16,
        use_cpu=next(trainee.parameters()).device.type == "cpu",
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )
