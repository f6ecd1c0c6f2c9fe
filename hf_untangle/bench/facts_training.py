"""Training on questions: short batches of similar length, loss on answers alone."""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedModel

from hf_untangle.architecture.offload import input_device
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.documents import IGNORED
from hf_untangle.errors import StatisticsError
from hf_untangle.progress import track
from hf_untangle.runtime import fast_dtype

WARMUP = 0.1
"""Share of the steps in which the learning rate rises."""


def train_on_answers_(
    model: PreTrainedModel,
    blocks: TokenBlocks,
    *,
    steps: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    what: str,
    progress: bool,
) -> PreTrainedModel:
    """Train all weights with AdamW and a linear schedule, in place, with dropout off.

    Args:
        model: A causal language model in float32.
        blocks: A question with its answer each; they come again when the steps need more.
        steps: Optimizer steps.
        learning_rate: The largest one.
        batch_size: Questions in a step.
        seed: For their order.
        what: What is said in front of the progress bar.
        progress: Whether to show it.

    Returns:
        The model, in evaluation mode.

    Raises:
        StatisticsError: The loss is not finite.
    """
    model.eval().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    rising = max(1, round(WARMUP * steps))
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (steps - step) / max(1, steps - rising))
    )
    device = input_device(model)
    # Weights and moments stay in float32; products are in bfloat16 where there are units for it, which halves the time.
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=fast_dtype(device) == torch.bfloat16)
    with track(what, steps, unit="step", progress=progress) as bar:
        for rows in _batches(blocks, steps, batch_size, seed):
            with torch.enable_grad(), mixed:
                loss = answer_loss(model, blocks.rows(rows))
            loss.backward()
            if not bool(loss.isfinite()):
                raise StatisticsError(f"The loss must be finite, got {float(loss.detach())}. Lower the learning_rate.")
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            pace.step()
            bar.say(f"loss {float(loss.detach()):.3f}")
            bar.update()
    return model.requires_grad_(False)  # type: ignore[return-value]


def answer_loss(model: PreTrainedModel, blocks: TokenBlocks) -> Tensor:
    """Mean cross-entropy of the tokens of answers; logits are made where one is predicted alone.

    Args:
        model: The model.
        blocks: Questions with answers.

    Returns:
        The loss, in nats per token.
    """
    device = input_device(model)
    labels = blocks.labels()[:, 1:].to(device)
    first = int((labels != IGNORED).any(0).nonzero().min())
    # From the first position on that any row predicts; prompts are most of a row.
    logits = model(**blocks.inputs(device), use_cache=False, logits_to_keep=blocks.width - first).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1).float(), labels[:, first:].flatten(), ignore_index=IGNORED)


def _batches(blocks: TokenBlocks, steps: int, size: int, seed: int) -> Iterator[Int[Tensor, " row"]]:
    """Choose the rows of every step: all of them come once before any comes again, those of similar length together."""
    generator = torch.Generator().manual_seed(seed)
    lengths = blocks.attention_mask.sum(1)
    done = 0
    while done < steps:
        drawn = torch.randperm(len(lengths), generator=generator)
        # Sorted in stretches of several batches, so that an order by length does not repeat.
        stretches = [part[lengths[part].argsort()] for part in drawn.split(8 * size)]
        batches = [rows for part in stretches for rows in part.split(size)]
        for number in torch.randperm(len(batches), generator=generator)[: steps - done]:
            yield batches[int(number)]
        done += len(batches)
