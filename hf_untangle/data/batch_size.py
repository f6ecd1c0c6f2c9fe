"""Going over blocks in batches that fit: how many blocks at a time, until when, and what to do when memory runs out."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar, cast

from hf_untangle.data.blocks import Blocks
from hf_untangle.errors import ConfigError

logger = logging.getLogger("hf_untangle")

SomeBlocks = TypeVar("SomeBlocks", bound=Blocks)
BatchSize = int | Literal["auto"]
"""Blocks in one forward pass, or as many as fit."""
BACKWARD_SHARE = 8
"""How many times as many blocks a forward pass takes as a backward pass, which holds all activations and the logits."""
BACKWARD_POSITIONS = 256
"""Positions that a backward pass may have in any case: short blocks alone are no work at all."""
FIRST_TOKENS, FIRST_BLOCKS = 4096, 64
"""Positions and blocks that "auto" begins with at the most: enough to keep a GPU busy, and few enough for a laptop."""


class Batches:
    """Iterator over batches that tracks progress.

    With "auto", a batch that does not fit into memory is cut in half and started again, and all later ones are as small.
    """

    def __init__(self, blocks: Blocks, batch_size: BatchSize = "auto", *, max_seconds: int | float | None = None) -> None:
        """Start at the first block.

        Args:
            blocks: What to go over.
            batch_size: Blocks a batch, or "auto".
            max_seconds: No batch is begun after so many seconds, but one is run in any case; no limit when None.

        Raises:
            ConfigError: The batch size is not positive, or no time is given.
        """
        if batch_size != "auto" and batch_size < 1:
            raise ConfigError(f"A batch must have at least one block, got batch_size={batch_size}.")
        if max_seconds is not None and not max_seconds > 0:
            raise ConfigError(f"A time limit must be above 0 seconds, got max_seconds={max_seconds}.")
        self._blocks = blocks
        self._halves = batch_size == "auto"
        self._max_seconds = max_seconds
        self.done = 0
        """How many blocks have been run."""
        self.size = first_size(batch_size, blocks.width)
        """Blocks in the next batch."""

    @property
    def total(self) -> int:
        """The number of blocks."""
        return len(self._blocks.counted)

    def passes(self) -> Iterator[int]:
        """Number the batches, for processes that share a model and must run as many each.

        Yields:
            0, 1, and so on.

        Raises:
            ConfigError: How many there will be depends on time or memory.
        """
        if self._halves or self._max_seconds is not None:
            raise ConfigError(
                "Processes that share a model must run as many passes each, so neither time nor memory can say how many. Give "
                "a batch size as a number, and no max_seconds."
            )
        yield from range(-(-len(self._blocks.counted) // self.size))

    def run(self, work: Callable[[Blocks], None]) -> Iterator[Blocks]:
        """Do some work on every batch.

        Args:
            work: What to do. When memory runs out in it, whatever it did for this batch must not count: it is called again,
                with fewer blocks.

        Yields:
            Each batch, after the work on it.

        Raises:
            ConfigError: Not even one block fits into memory.
        """
        end = None if self._max_seconds is None else time.monotonic() + self._max_seconds
        failed_at = None
        first = self.done
        while self.done < len(self._blocks.counted):
            if end is not None and self.done > first and time.monotonic() >= end:
                return
            batch = self._blocks.rows(slice(self.done, self.done + self.size))
            if not self._fits(work, batch):
                failed_at = failed_at or self.size
                self.size = self._half(self.size)
                continue
            if failed_at is not None:
                logger.warning("%d blocks in a batch did not fit into memory; continuing with %d.", failed_at, self.size)
                failed_at = None
            self.done += len(batch.counted)
            yield batch

    def _fits(self, work: Callable[[Blocks], None], batch: Blocks) -> bool:
        """Try a batch, and tell whether memory was large enough for it."""
        if not self._halves:
            work(batch)
            return True
        from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

        try:
            work(batch)
            return True
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        # Out here nothing holds the tensors of the failed batch any more.
        clear_device_cache(garbage_collection=True)
        return False

    def _half(self, size: int) -> int:
        """Half as many blocks."""
        if size == 1:
            raise ConfigError(
                f"At least one block must fit into memory, but not even one of {self._blocks.width} positions does. Read "
                "shorter blocks (`block_size=`), or load the model in a smaller dtype."
            )
        return size // 2


def first_size(batch_size: BatchSize, width: int) -> int:
    """How many blocks the first batch has.

    Args:
        batch_size: Blocks a batch, or "auto".
        width: Positions in a block.

    Returns:
        The size itself; for "auto", as many blocks as have 4,096 positions together, from 1 to 64.
    """
    return min(FIRST_BLOCKS, max(1, FIRST_TOKENS // width)) if batch_size == "auto" else batch_size


def of_backward_pass(batch_size: BatchSize, width: int) -> BatchSize:
    """Choose the batch of a backward pass, so that it needs about as much memory as the forward pass does.

    Args:
        batch_size: Blocks in a forward pass, or "auto".
        width: Positions in a block.

    Returns:
        At least one block, and more of short ones; "auto" finds out by itself.
    """
    if batch_size == "auto":
        return batch_size
    return max(1, batch_size // BACKWARD_SHARE, min(batch_size, BACKWARD_POSITIONS // width))


def limited(blocks: SomeBlocks, max_tokens: int | None) -> SomeBlocks:
    """Take the first blocks, up to a number of tokens.

    Args:
        blocks: The blocks.
        max_tokens: How many tokens may count, in whole blocks, but at least one block; no limit when None.

    Returns:
        As many of the blocks.

    Raises:
        ConfigError: The limit is below one token.
    """
    if max_tokens is None:
        return blocks
    if max_tokens < 1:
        raise ConfigError(f"At least one token must be read, got max_tokens={max_tokens}.")
    so_far = blocks.counted.reshape(len(blocks.counted), -1).sum(1).cumsum(0)
    return cast(SomeBlocks, blocks.first(max(1, int((so_far <= max_tokens).sum()))))
