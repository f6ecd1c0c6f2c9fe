"""What the original model predicted, kept instead of the model: one number per row, or the largest logits of every token."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from hf_untangle.architecture.inference_mode import evaluation_mode, uncached
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.evaluation.kl_to_original import TOP, TopLogits
from hf_untangle.evaluation.next_token import logits_and_labels
from hf_untangle.methods.predictions import Predictions


def predictions_of(model: nn.Module, batch: TokenBlocks) -> Predictions:
    """Run a model on a batch.

    Args:
        model: A causal language model.
        batch: The rows.

    Returns:
        What it predicts, with a graph where gradients are recorded.
    """
    logits = model(**batch.inputs(input_device(model)), **uncached(model_below(model))).logits
    return Predictions.of(logits, batch.labels())


@torch.no_grad()
def reference_losses(model: nn.Module, blocks: TokenBlocks, *, per_token: bool, batch_size: int) -> Float[Tensor, " row"]:
    """Compute the negative log-probability of every row under the model as it is now.

    Args:
        model: The model before unlearning, or with its adapter disabled.
        blocks: The rows.
        per_token: Whether to divide by the number of counted tokens.
        batch_size: Rows in a forward pass.

    Returns:
        One number per row, on the CPU, which is all that NPO and DPO need of a reference model.
    """
    found = []
    for batch, predicted in _predicted(model, blocks, batch_size):
        losses = torch.cat([F.cross_entropy(logits.float(), tokens, reduction="none").cpu() for logits, tokens in predicted])
        found += [row.mean() if per_token else row.sum() for row in losses.split(_counts(batch))]
    return torch.stack(found)


@torch.no_grad()
def reference_logits(model: nn.Module, blocks: TokenBlocks, *, batch_size: int, top: int = TOP) -> list[TopLogits]:
    """Keep the largest logits of the model as it is now, row by row.

    Args:
        model: The model before unlearning, or with its adapter disabled.
        blocks: The rows.
        batch_size: Rows in a forward pass.
        top: Tokens that are kept per prediction.

    Returns:
        The predictions of the counted tokens of every row, on the CPU.
    """
    found = []
    for batch, predicted in _predicted(model, blocks, batch_size):
        kept = TopLogits.joined([TopLogits.of(logits, tokens, top).to(torch.device("cpu")) for logits, tokens in predicted])
        ends = torch.tensor([0, *_counts(batch)]).cumsum(0).tolist()
        found += [kept.rows(slice(start, end)) for start, end in pairwise(ends)]
    return found


def _predicted(
    model: nn.Module, blocks: TokenBlocks, batch_size: int
) -> Iterator[tuple[TokenBlocks, Iterator[tuple[Tensor, Tensor]]]]:
    """Every batch, with its logits and tokens a few predictions at a time."""
    device, below = input_device(model), model_below(model)
    with evaluation_mode(model):
        for batch in blocks.batches(batch_size):
            where, tokens = batch.queries()
            yield batch, logits_and_labels(below, batch.inputs(device), where.to(device), tokens.to(device))


def _counts(batch: TokenBlocks) -> list[int]:
    """Predictions of every row."""
    return batch.queries()[0].sum(-1).tolist()
