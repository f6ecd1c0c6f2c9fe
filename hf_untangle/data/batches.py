"""Blocks of tokens: how a corpus reaches a model."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_untangle.data.corpora import Corpus, CorpusSource, Part, corpus
from hf_untangle.data.packing import Ids, bos_prefix, packed_rows, padded_rows
from hf_untangle.distributed import is_main, place
from hf_untangle.errors import ConfigError, CorpusError

logger = logging.getLogger("hf_untangle")

Task = Literal["next token", "masked token", "class"]
"""What a model predicts of its inputs."""
IGNORED = -100
"""Label of what the loss leaves out."""


@dataclass(frozen=True)
class TokenBlocks:
    """Blocks of tokens from one part of a corpus, ready for a model."""

    input_ids: Int[Tensor, "block position"]
    """Token ids."""
    attention_mask: Bool[Tensor, "block position"]
    """False where a position is padding."""
    counted: Bool[Tensor, "block position"]
    """Positions that statistics count: never padding, and BOS only by option."""
    corpus: Corpus
    """The corpus that the tokens come from."""
    part: Part
    """The part of the corpus."""
    documents: int
    """How many documents were read for all blocks."""
    task: ClassVar[Task] = "next token"

    @property
    def tokens(self) -> int:
        """How many positions are counted."""
        return int(self.counted.sum())

    @property
    def width(self) -> int:
        """How many positions a block has."""
        return self.input_ids.shape[1]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell these tokens, and which of them count, from any others."""
        digest = hashlib.sha256(repr(tuple(self.input_ids.shape)).encode())
        for tensor in (self.input_ids, self.attention_mask, self.counted):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def rows(self, rows: slice | Int[Tensor, " row"]) -> "TokenBlocks":
        """Take some of the blocks.

        Args:
            rows: Which.

        Returns:
            Those blocks.
        """
        part = {name: getattr(self, name)[rows] for name in ("input_ids", "attention_mask", "counted")}
        return replace(self, **part)

    def labels(self) -> Int[Tensor, "block position"]:
        """What the model's own loss is taken on: the tokens themselves, which it shifts, and IGNORED for padding."""
        return self.input_ids.masked_fill(~self.attention_mask, IGNORED)

    def queries(self) -> tuple[Bool[Tensor, "block position"], Int[Tensor, " prediction"]]:
        """Where the model predicts something that is known, and what it should be.

        Returns:
            The positions whose next token is in the block, and those next tokens, block by block.
        """
        known = self.attention_mask[:, :-1] & self.attention_mask[:, 1:]
        return F.pad(known, (0, 1)), self.input_ids[:, 1:][known]

    def batches(self, batch_size: int) -> Iterator["TokenBlocks"]:
        """Cut the blocks into batches.

        Args:
            batch_size: Blocks a batch; the last one may have fewer.

        Yields:
            Consecutive blocks, in order.

        Raises:
            ConfigError: The batch size is not positive.
        """
        if batch_size < 1:
            raise ConfigError(f"A batch must have at least one block, got batch_size={batch_size}.")
        for start in range(0, len(self.input_ids), batch_size):
            block = slice(start, start + batch_size)
            yield self.rows(block)

    def mine(self) -> "TokenBlocks":
        """The blocks that this process reads: all of them, or every n-th of n processes; there may be none.

        Returns:
            Some of the blocks, in order. Together the processes have each block once.
        """
        number, count = place()
        return self.rows(slice(number, None, count))

    def bar(self, what: str, *, progress: bool) -> tqdm:
        """A progress bar that counts tokens and shows how many pass a second and how long it will take.

        Args:
            what: What is being done, such as `statistics of`.
            progress: Whether to show it. Of several processes the main one does.

        Returns:
            The bar.
        """
        shown = progress and is_main()
        return tqdm(total=self.tokens, unit="token", unit_scale=True, desc=f"{what} {self.corpus.name}", disable=not shown)

    def first(self, blocks: int) -> "TokenBlocks":
        """Take the first few blocks.

        Args:
            blocks: How many; all of them when there are fewer.

        Returns:
            Those blocks.
        """
        return next(self.batches(blocks))

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """What a model is called with; without an attention mask when no position is padding.

        Args:
            device: Where the model's embedding is.

        Returns:
            `input_ids`, and `attention_mask` when it says anything.
        """
        inputs = {"input_ids": self.input_ids.to(device)}
        if not self.attention_mask.all():
            inputs["attention_mask"] = self.attention_mask.long().to(device)
        return inputs

    def record(self) -> dict[str, Any]:
        """Describe the tokens for a report.

        Returns:
            Name, origin, source and license of the corpus, the part, how many documents, blocks and tokens,
            and the fingerprint. JSON can hold all of it.
        """
        return {
            "corpus": self.corpus.name,
            "origin": self.corpus.origin,
            "source": self.corpus.source,
            "license": self.corpus.license,
            "part": self.part,
            "documents": self.documents,
            "blocks": len(self.input_ids),
            "tokens": self.tokens,
            "fingerprint": self.fingerprint,
        }


def token_blocks(
    source: CorpusSource,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: int = 16_384,
    part: Part = "train",
    block_size: int = 256,
    packed: bool = True,
    excerpt: int | None = 1000,
    bos: Literal["count", "drop"] = "count",
) -> TokenBlocks:
    """Read blocks of tokens from one part of a corpus.

    Packed blocks are full: documents are joined by the EOS token, when the tokenizer has one, and cut into
    blocks without padding. Otherwise each document has a block of its own, cut to `block_size` and padded on
    the right. Either way a block begins with the BOS token if the tokenizer puts one there by itself, and no
    more documents are read than the budget needs.

    Args:
        source: The corpus, or whatever `corpus` makes one of.
        tokenizer: The tokenizer of the model.
        tokens: How many tokens to read at most, in whole blocks, but at least one block. Without packing,
            documents are read until there are at least this many.
        part: The part of the corpus to read.
        block_size: Tokens a block.
        packed: Whether documents are packed into full blocks.
        excerpt: Packing takes at most this many tokens of a document, from its middle, so that a few long documents do
            not stand for a corpus; None takes all of it.
        bos: Whether statistics count the BOS position ("count") or not ("drop").

    Returns:
        The blocks. Fewer than asked for, with a warning in the log, when the part ends before.

    Raises:
        ConfigError: `tokens`, `block_size` or `excerpt` is too small.
        CorpusError: The part does not have enough tokens for one block.
    """
    bos_length = len(bos_prefix(tokenizer))
    if tokens < 1 or block_size <= bos_length or (excerpt is not None and excerpt < 1):
        raise ConfigError(
            "The budget, an excerpt, and a block besides its BOS must have room for at least one token, "
            f"got tokens={tokens}, excerpt={excerpt} and block_size={block_size}. Ask for more."
        )
    opened = corpus(source)
    documents = opened.documents(part)
    if packed:
        found = packed_rows(documents, tokenizer, tokens, block_size, excerpt)
    else:
        found = padded_rows(documents, tokenizer, tokens, block_size)
    if not found.rows:
        raise CorpusError(
            f"The {part} part of corpus `{opened.name}` has {found.found} tokens, too few for one block of "
            f"{block_size}. Pass more text or a smaller block_size."
        )
    input_ids, attention_mask = _padded(found.rows, tokenizer)
    counted = attention_mask.clone()
    if bos == "drop":
        counted[:, :bos_length] = False
    _warn_if_short(int(attention_mask.sum()), tokens - tokens % block_size, part, opened.name)
    return TokenBlocks(input_ids, attention_mask, counted, opened, part, found.documents)


def _warn_if_short(had: int, asked: int, part: Part, name: str) -> None:
    """Say in the log that a part ended before the budget was met."""
    if had < asked:
        logger.warning("The %s part of corpus `%s` has %d of the %d tokens that were asked for.", part, name, had, asked)


def _padded(
    rows: list[Ids], tokenizer: PreTrainedTokenizerBase
) -> tuple[Int[Tensor, "block position"], Bool[Tensor, "block position"]]:
    """Stack rows of ids, padded on the right, and say which positions are not padding."""
    # Padding is masked, so where a tokenizer has none, any id of the vocabulary will do.
    padding = cast(int, tokenizer.pad_token_id or 0)
    input_ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=padding)
    lengths = torch.tensor([len(row) for row in rows])
    return input_ids, torch.arange(input_ids.shape[1]) < lengths[:, None]
