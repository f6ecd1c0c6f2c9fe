"""How well a classifier tells what images show."""

import torch
from transformers import PreTrainedModel

from hf_untangle.architecture.modes import evaluation_mode, without_gradients
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.passes import in_step, run_body
from hf_untangle.data.blocks import Blocks
from hf_untangle.data.fitting import Batches, BatchSize
from hf_untangle.data.images import ImageBlocks
from hf_untangle.distributed import together
from hf_untangle.evaluation.next_token import NextTokenMetrics, metrics_of, sums_of


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
    parts = together(lambda: _sums_over(model, mine, Batches(mine, batch_size), progress))
    return metrics_of(torch.stack(parts).sum(0), blocks.corpus.name)


def _sums_over(model: PreTrainedModel, blocks: ImageBlocks, batches: Batches, progress: bool) -> torch.Tensor:
    """Hits, hits among the first ten, loss and number of some images."""
    device = input_device(model)
    sums = torch.zeros(4, dtype=torch.float64)

    def measure(batch: Blocks) -> None:
        logits = model(pixel_values=batch.inputs(device)["pixel_values"].to(model.dtype)).logits
        sums.add_(sums_of(logits, batch.labels().to(device)).cpu())

    with (
        blocks.bar("evaluation on", progress=progress) as bar,
        evaluation_mode(model),
        without_gradients(model),
        in_step(model, batches.passes(), run_body),
    ):
        for batch in batches.run(measure):
            bar.update(batch.tokens)
    return sums
