"""How well a model predicts, whatever it predicts: the next token, a hidden one, or the class of an image."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.offload import input_device
from hf_untangle.data.batch_size import Batches, BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.data.images import ImageBlocks
from hf_untangle.distributed import together
from hf_untangle.evaluation.block_sums import BlockSums, scored
from hf_untangle.evaluation.next_token import NextTokenMetrics, metrics_of, next_token_sums, sums_over


def class_sums(model: PreTrainedModel, blocks: ImageBlocks, *, batch_size: BatchSize = 8, progress: bool = True) -> BlockSums:
    """Measure the accuracy and the loss of a classifier, image by image.

    Args:
        model: An image classifier.
        blocks: The images.
        batch_size: Images in one forward pass; "auto" halves them when memory runs out.
        progress: Whether to show a progress bar.

    Returns:
        Sums per image, of which each is a block of one prediction.
    """
    mine = blocks.mine()
    batches = Batches(mine, batch_size)
    device = input_device(model)

    def measure(batch: Blocks) -> Tensor:
        logits = model(pixel_values=batch.inputs(device)["pixel_values"].to(model.dtype)).logits
        return scored(logits, batch.labels().to(device)).cpu().double()

    parts = together(lambda: sums_over(model, mine, batches, measure, progress=progress))
    return BlockSums(in_turn(parts))


def prediction_sums(model: PreTrainedModel, blocks: Blocks, *, batch_size: BatchSize = 8, progress: bool = True) -> BlockSums:
    """Measure accuracy and loss by what the blocks ask for, block by block.

    Args:
        model: A model of their kind.
        blocks: Tokens, tokens some of which are hidden, or images.
        batch_size: Blocks in one forward pass; "auto" halves them when memory runs out.
        progress: Whether to show a progress bar.

    Returns:
        Sums per block, in order, the same in every process.
    """
    if isinstance(blocks, ImageBlocks):
        return class_sums(model, blocks, batch_size=batch_size, progress=progress)
    return BlockSums(in_turn(next_token_sums(model, blocks, batch_size=batch_size, progress=progress)))


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
    return metrics_of(prediction_sums(model, blocks, batch_size=batch_size, progress=progress).total, blocks.corpus.name)


def in_turn(parts: list[Tensor]) -> Tensor:
    """Put the rows of several processes, each of which has every n-th block, in the order of the blocks.

    Args:
        parts: The rows of each process.

    Returns:
        All rows.
    """
    whole = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=parts[0].dtype)
    for number, part in enumerate(parts):
        whole[number :: len(parts)] = part
    return whole
