"""What the original model predicted, kept instead of the model: one number per row, or the largest logits of every token."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.inference_mode import evaluation_mode, uncached
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.evaluation.kl_to_original import TOP, TopLogits
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
    with evaluation_mode(model):
        found = [predictions_of(model, batch).row_losses(per_token=per_token).cpu() for batch in blocks.batches(batch_size)]
    return torch.cat(found)


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
    with evaluation_mode(model):
        return [top_of for batch in blocks.batches(batch_size) for top_of in _row_by_row(predictions_of(model, batch), top)]


def _row_by_row(predictions: Predictions, top: int) -> Iterator[TopLogits]:
    """The largest logits of every row."""
    for logits, tokens in zip(predictions.logits, predictions.tokens, strict=True):
        counted = tokens >= 0
        yield TopLogits.of(logits[counted], tokens[counted], top).to(torch.device("cpu"))
