"""How well a model predicts, whatever it predicts: the next token, a hidden one, or the class of an image."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.offload import input_device
from hf_untangle.data.batch_size import Batches, BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.data.images import ImageBlocks
from hf_untangle.distributed import together
from hf_untangle.evaluation.next_token import NextTokenMetrics, metrics_of, next_token_metrics, sums_of, sums_over


def class_metrics(
    model: PreTrainedModel, blocks: ImageBlocks, *, batch_size: BatchSize = 8, progress: bool = True
) -> NextTokenMetrics:
    """Measure the accuracy and the loss of a classifier.

    Args:
        model: An image classifier.
        blocks: The images.
        batch_size: Images in one forward pass; "auto" halves them when memory runs out.
        progress: Whether to show a progress bar.

    Returns:
        The metrics, over images.

    Raises:
        StatisticsError: The loss is NaN.
    """
    mine = blocks.mine()
    batches = Batches(mine, batch_size)
    device = input_device(model)

    def measure(batch: Blocks) -> Tensor:
        logits = model(pixel_values=batch.inputs(device)["pixel_values"].to(model.dtype)).logits
        return sums_of(logits, batch.labels().to(device))

    parts = together(lambda: sums_over(model, mine, batches, measure, progress=progress))
    return metrics_of(torch.stack(parts).sum(0), blocks.corpus.name)


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
