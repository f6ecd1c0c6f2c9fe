"""What the original model predicted, kept instead of the model: one number per row, or the largest logits of every token."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.inference_mode import uncached
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.evaluation.kl_to_original import TOP, TopLogits, reference_sums
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
    sums, _ = reference_sums(model_below(model), blocks, batch_size=batch_size, top=1)
    return (sums.loss / sums.tokens if per_token else sums.loss).float()


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
    sums, kept = reference_sums(model_below(model), blocks, batch_size=batch_size, top=top)
    ends = [0, *map(int, sums.tokens.cumsum(0))]
    return [kept.rows(slice(start, end)) for start, end in pairwise(ends)]
