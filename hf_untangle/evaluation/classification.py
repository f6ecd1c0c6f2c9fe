"""How well a classifier tells what images show."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.offload import input_device
from hf_untangle.data.batch_size import Batches, BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.data.images import ImageBlocks
from hf_untangle.distributed import together
from hf_untangle.evaluation.next_token import NextTokenMetrics, metrics_of, sums_of, sums_over


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
