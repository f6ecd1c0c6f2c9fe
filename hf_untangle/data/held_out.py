"""Held-out blocks of a part that stand for all of its documents, and what there is besides.

Packed blocks follow each other as documents do, so that the first few of them are of few documents, and what these happen to be
about decides. Here four times as many are read, and every fourth of them comes first. Rows that are documents of their own need
no such order.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from hf_untangle.data.batches import as_many_blocks, taking_turns, warn_if_short
from hf_untangle.data.corpora import Corpus
from hf_untangle.data.tokens import TokenBlocks

DOUBLINGS = 2
"""How often the blocks that come first may be doubled."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Blocks of one part of a corpus."""

    first: TokenBlocks
    """As many as were asked for."""
    further: tuple[TokenBlocks | None, ...]
    """Up to three times as many besides, of every corpus; None where there are no more."""


def held_out_blocks(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, *, tokens: int, block_size: int, **how: Any) -> HeldOut:
    """Read held-out blocks that are spread over all documents that are read.

    Args:
        corpus: The corpus, or several.
        tokenizer: The tokenizer of the model.
        tokens: How many tokens the blocks that come first have at most, as in `token_blocks`.
        block_size: Tokens per block.
        **how: `part`, `packed` and `bos`, as in `token_blocks`.

    Returns:
        The blocks, of several corpora those of each by turns.

    Raises:
        CorpusError: The part does not have enough tokens for one block.
    """
    members = corpus.members or (corpus,)
    share = max(1, tokens // len(members))
    each = [_spread(one, tokenizer, tokens=share, block_size=block_size, **how) for one in members]
    first = each[0][0] if not corpus.members else taking_turns([one for one, _ in each], corpus)
    warn_if_short(first, tokens, block_size)
    return HeldOut(first, tuple(further for _, further in each))


def spread_order(count: int) -> list[int]:
    """Order some rows so that any first few of them are spread over all, by their numbers in binary read backwards.

    Args:
        count: How many rows there are.

    Returns:
        Their numbers: 0, 4, 2, 6, 1, 5, 3 of seven.
    """
    digits = max(1, (count - 1).bit_length())
    return sorted(range(count), key=lambda row: int(f"{row:0{digits}b}"[::-1], 2))


def _spread(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, *, tokens: int, block_size: int, **how: Any
) -> tuple[TokenBlocks, TokenBlocks | None]:
    """The blocks of one corpus that come first, and the others."""
    every = as_many_blocks(corpus, tokenizer, tokens=tokens * 2**DOUBLINGS, block_size=block_size, **how)
    if corpus.kind == "text" and how.get("packed", True):
        count = max(1, tokens // block_size)
        every = every.rows(torch.tensor(spread_order(len(every))))
    else:
        lengths = every.attention_mask.sum(1).cumsum(0)
        count = 1 + int((lengths < tokens).sum())
    return every.rows(slice(count)), every.rows(slice(count, None)) if count < len(every) else None
