"""Blocks for masked language models: a fixed share of the tokens is hidden, and those are what the model predicts."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_untangle.data.documents import IGNORED
from hf_untangle.data.tokens import Task, TokenBlocks
from hf_untangle.display import short_repr
from hf_untangle.errors import CorpusError, TokenizerError

SHARE = 0.15
"""Share of the tokens that is hidden, as masked language models are trained with (Devlin et al. 2019, arXiv:1810.04805)."""


@dataclass(frozen=True, kw_only=True)
class MaskedTokenBlocks(TokenBlocks):
    """Blocks in which some tokens have given way to the mask token."""

    targets: Int[Tensor, "block position"]
    """The hidden tokens, and IGNORED everywhere else."""
    task: ClassVar[Task] = "masked token"
    __repr__ = short_repr

    def labels(self) -> Int[Tensor, "block position"]:
        """What the model's own loss is taken on: the hidden tokens."""
        return self.targets

    def queries(self) -> tuple[Bool[Tensor, "block position"], Int[Tensor, " prediction"]]:
        """Where a token is hidden, and which."""
        hidden = self.targets != IGNORED
        return hidden, self.targets[hidden]


def mask_tokens(blocks: TokenBlocks, tokenizer: PreTrainedTokenizerBase, *, seed: int = 0) -> MaskedTokenBlocks:
    """Hide 15% of the tokens, the same ones every time; special tokens are never hidden.

    Args:
        blocks: The blocks.
        tokenizer: The tokenizer of the model, which has a mask token.
        seed: For the draw.

    Returns:
        The blocks with the mask token in their place.

    Raises:
        TokenizerError: The tokenizer has no mask token.
        CorpusError: There are too few tokens to hide one.
    """
    mask = tokenizer.mask_token_id
    if not isinstance(mask, int):
        raise TokenizerError("A masked language model needs a tokenizer with a mask token, but this one has none.")
    special = torch.isin(blocks.input_ids, torch.tensor(tokenizer.all_special_ids))
    drawn = torch.rand(blocks.input_ids.shape, generator=torch.Generator().manual_seed(seed)) < SHARE
    hidden = drawn & blocks.predicted() & ~special
    if not hidden.any():
        raise CorpusError(f"Some tokens must be hidden, but {blocks.tokens} tokens are too few to hide 15%. Read more tokens.")
    return MaskedTokenBlocks(
        input_ids=blocks.input_ids.masked_fill(hidden, mask),
        attention_mask=blocks.attention_mask,
        counted=blocks.counted,
        corpus=blocks.corpus,
        part=blocks.part,
        documents=blocks.documents,
        answers=blocks.answers,
        members=blocks.members,
        understood=blocks.understood,
        targets=blocks.input_ids.masked_fill(~hidden, IGNORED),
    )
