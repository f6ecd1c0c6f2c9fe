"""What a model does on held-out blocks of both corpora, block by block, and what changed from one model to another.

Of several retain corpora each is measured by itself, so that each has its own budget, in one pass over all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import PreTrainedModel

from hf_untangle.data.batch_size import BatchSize, first_size
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.blocks import Blocks
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.block_sums import BlockSums
from hf_untangle.evaluation.intervals import ratio_error
from hf_untangle.evaluation.kl_to_original import TopLogits, divergence_sums, reference_sums
from hf_untangle.evaluation.prediction import prediction_sums
from hf_untangle.pruning.by_corpus import members_of
from hf_untangle.pruning.step import Pair
from hf_untangle.records.scores import Estimate, Paired

References = tuple[TopLogits, ...]
"""What the original predicted of the blocks of every retain corpus."""


@dataclass(frozen=True, eq=False)
class Sums:
    """What a model does on some blocks of both corpora, block by block."""

    forget: BlockSums
    retain: tuple[BlockSums, ...]
    """One per retain corpus."""


def parts_of(blocks: Blocks) -> dict[str, Blocks]:
    """The blocks of every corpus by itself.

    Args:
        blocks: Blocks of one corpus, or of several.

    Returns:
        Those of each by name.
    """
    return dict(members_of(blocks)) or {blocks.corpus.name: blocks}


def measure_original(
    model: PreTrainedModel, parts: Sequence[Blocks | None], batch_size: BatchSize
) -> tuple[tuple[BlockSums, ...], References]:
    """Measure the original on the blocks of every retain corpus, and keep what it predicts, in one pass.

    Args:
        model: The model before any change.
        parts: The blocks of each.
        batch_size: Blocks in a forward pass.

    Returns:
        The sums of each, and its predictions of each; no rows of one that has no blocks.
    """

    def one(blocks: Blocks | None) -> tuple[BlockSums, TopLogits]:
        if blocks is None:
            return BlockSums(torch.zeros(0, 4).double()), TopLogits(torch.zeros(0, 1, dtype=torch.int32), torch.zeros(0, 1))
        text = text_blocks(blocks)
        return reference_sums(model, text, batch_size=first_size(batch_size, text.width))

    sums, references = zip(*map(one, parts), strict=True)
    return sums, references


def text_blocks(blocks: Blocks) -> TokenBlocks:
    """Blocks of text, of which a disruption can be measured.

    Args:
        blocks: Any blocks.

    Returns:
        The same.

    Raises:
        ConfigError: They are of another task than predicting the next token.
    """
    if blocks.task != "next token":
        raise ConfigError(
            f"disruption_budget needs a causal language model, got one that predicts a {blocks.task}. Leave it out."
        )
    return cast(TokenBlocks, blocks)


def measure(
    model: PreTrainedModel, pair: Pair, *, batch_size: BatchSize, progress: bool, references: References | None = None
) -> Sums:
    """Measure a model as it is now, block by block.

    Args:
        model: The model, masked or not.
        pair: Blocks of both corpora.
        batch_size: Blocks in a forward pass.
        progress: Whether to show progress bars.
        references: What the original predicted of retain, to measure the divergence.

    Returns:
        The sums.
    """
    forget = prediction_sums(model, pair.forget, batch_size=batch_size, progress=progress)
    parts = tuple(parts_of(pair.retain).values())
    return Sums(forget, measure_retain(model, parts, batch_size=batch_size, progress=progress, references=references))


def measure_retain(
    model: PreTrainedModel,
    parts: Sequence[Blocks | None],
    *,
    batch_size: BatchSize,
    progress: bool,
    references: References | None = None,
) -> tuple[BlockSums, ...]:
    """Measure a model as it is now on the blocks of every retain corpus.

    Args:
        model: The model, masked or not.
        parts: The blocks of each.
        batch_size: Blocks in a forward pass.
        progress: Whether to show progress bars.
        references: What the original predicted of each, to measure the divergence.

    Returns:
        The sums of each; no rows of one that has no blocks.
    """

    def one(blocks: Blocks | None, reference: TopLogits | None) -> BlockSums:
        if blocks is None:
            return BlockSums(torch.zeros(0, 4).double(), None if reference is None else torch.zeros(0).double())
        if reference is None:
            return prediction_sums(model, blocks, batch_size=batch_size, progress=progress)
        text = text_blocks(blocks)
        return divergence_sums(model, text, reference, batch_size=first_size(batch_size, text.width))

    return tuple(map(one, parts, references or [None] * len(parts)))


def joined(some: Sequence[BlockSums], more: Sequence[BlockSums]) -> tuple[BlockSums, ...]:
    """Put further blocks of every corpus behind those that were read.

    Args:
        some: The sums of each.
        more: Those of further blocks of each.

    Returns:
        The sums of all blocks of each.
    """
    return tuple(BlockSums.joined([one, other]) for one, other in zip(some, more, strict=True))


def paired(now: BlockSums, before: BlockSums) -> Paired | None:
    """Compare two models on the same blocks.

    Args:
        now: The changed model.
        before: The original.

    Returns:
        What changed, with its standard errors over blocks; None for fewer than two blocks, or where a loss is not finite.
    """
    blocks, tokens, hits = len(now.tokens), float(now.tokens.sum()), float(before.hits.sum())
    if blocks < 2 or not hits:
        return None

    def estimate(value: float, error: float) -> Estimate | None:
        return Estimate(value=value, error=error, blocks=blocks) if math.isfinite(value + error) else None

    rise = now.loss - before.loss
    drop = estimate(1 - float(now.hits.sum()) / hits, ratio_error(now.hits, before.hits))
    loss_rise = estimate(float(rise.sum()) / tokens, ratio_error(rise, now.tokens))
    if drop is None or loss_rise is None:
        return None
    moved = None if now.divergence is None else estimate(now.disruption or 0.0, ratio_error(now.divergence, now.tokens))
    return Paired(tokens=int(tokens), drop=drop, loss_rise=loss_rise, disruption=moved)
