"""One training run on a retain corpus, by the Trainer of transformers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.callbacks.progress import ProgressBarCallback
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.documents import IGNORED
from hf_untangle.distributed import place
from hf_untangle.folders import temporary_folder
from hf_untangle.progress import track
from hf_untangle.randomness import random_state_kept

INPUTS = ("input_ids", "attention_mask")
"""What a causal language model reads of a batch."""


def train_(
    trainee: nn.Module,
    blocks: TokenBlocks,
    config: RepairConfig,
    *,
    compute: torch.dtype = torch.float32,
    original: PreTrainedModel | None = None,
    callbacks: Sequence[Callable[[Trainer], TrainerCallback]] = (),
    progress: bool = True,
) -> None:
    """Train the parameters that require gradients with the causal-LM loss, on all tokens or on answers alone.

    Args:
        trainee: A causal language model, with an adapter of peft or without, changed in place.
        blocks: The tokens; they come again when the steps need more.
        config: The settings.
        compute: In what the passes are computed where weights are float32: mixed precision when it is not float32.
        original: The model whose predictions are the target, for the share that `config.distill` says.
        callbacks: Make the callbacks of the run, each from its trainer.
        progress: Whether to show a progress bar.
    """
    dataset: Any = blocks.training_rows()
    work: dict[str, Any] = {"kind": "training", "weight": config.passes * config.batch_size * config.block_size}
    bar = track(f"training on {blocks.corpus.name}", config.steps, unit="step", progress=progress, **work)
    seen: dict[str, Tensor] = {}
    mixed = partial(mixed_target_loss, original=original, share=config.distill, inputs=seen) if original is not None else None
    with temporary_folder() as folder, random_state_kept(), _inputs_kept(trainee, seen), bar as opened:
        arguments = _arguments(str(folder), trainee, config, compute)
        counting = ProgressBarCallback(opened)
        trainer = Trainer(trainee, arguments, train_dataset=dataset, compute_loss_func=mixed, callbacks=[counting])
        for make in callbacks:
            trainer.add_callback(make(trainer))
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def mixed_target_loss(
    outputs: Any,
    labels: Int[Tensor, "block position"],
    num_items_in_batch: Tensor | int | None = None,
    *,
    original: PreTrainedModel,
    share: float,
    inputs: Mapping[str, Tensor] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy against a mixture of the text and what the original model predicts of it.

    With q the model's prediction of a token, p the original's, y the token itself and s the share, the loss of a token is
    -(1 - s) log q(y) - s sum_v p(v) log q(v). Its gradient is that of (1 - s) times the usual loss and s times KL(p || q),
    which is distillation at temperature 1 (arXiv:1503.02531).

    Args:
        outputs: What the model gave, with `logits`.
        labels: The tokens to predict, and IGNORED for all others.
        num_items_in_batch: What the sum over tokens is divided by; their own number when None.
        original: The model to learn from, which is only read.
        share: Its share s, from 0 to 1.
        inputs: What the model was called with; the labels where all of them count.

    Returns:
        The loss of a token.
    """
    with evaluation_mode(original), torch.no_grad():
        read = {name: tensor for name, tensor in (inputs or {"input_ids": labels}).items() if name in INPUTS}
        known = labels[:, 1:] != IGNORED
        target = original(**read, use_cache=False).logits[:, :-1][known].float().softmax(-1)
    log_q = outputs.logits[:, :-1][known].float().log_softmax(-1)
    of_text = F.nll_loss(log_q, labels[:, 1:][known], reduction="sum")
    of_original = -(target.to(log_q.device) * log_q).sum()
    tokens = known.sum() if num_items_in_batch is None else num_items_in_batch
    return ((1 - share) * of_text + share * of_original) / tokens


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
