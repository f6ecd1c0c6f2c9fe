"""How well a model predicts, whatever it predicts: the next token, a hidden one, or the class of an image."""

from transformers import PreTrainedModel

from hf_untangle.data.batch_size import BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.data.images import ImageBlocks
from hf_untangle.evaluation.classification import class_metrics
from hf_untangle.evaluation.next_token import NextTokenMetrics, next_token_metrics


def prediction_metrics(
    model: PreTrainedModel, blocks: Blocks, *, batch_size: BatchSize = 8, progress: bool = True
) -> NextTokenMetrics:
    """Measure accuracy and loss by what the blocks ask for.

    Args:
        model: A model of their kind.
        blocks: Tokens, tokens some of which are hidden, or images.
        batch_size: Blocks in one forward pass; "auto" halves them when memory runs out.
        progress: Whether to show a progress bar.

    Returns:
        The metrics.

    Raises:
        StatisticsError: There is nothing to predict, or the loss is NaN.
    """
    if isinstance(blocks, ImageBlocks):
        return class_metrics(model, blocks, batch_size=batch_size, progress=progress)
    return next_token_metrics(model, blocks, batch_size=batch_size, progress=progress)
