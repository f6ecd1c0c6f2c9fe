"""Blocks of tokens: how a corpus reaches a model."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_untangle.data.corpora import Corpus, CorpusSource, corpus
from hf_untangle.data.documents import IGNORED, Document, Part
from hf_untangle.data.encoding import Encoder
from hf_untangle.data.packing import TokenRows, answer_rows, bos_prefix, packed_rows, padded_rows
from hf_untangle.data.templates import template_name
from hf_untangle.data.understood import understood
from hf_untangle.distributed import is_main, place
from hf_untangle.errors import ConfigError, CorpusError

logger = logging.getLogger("hf_untangle")

Task = Literal["next token", "masked token", "class"]
"""What a model predicts of its inputs."""


@dataclass(frozen=True)
class TokenBlocks:
    """Blocks of tokens from one part of a corpus, ready for a model."""

    input_ids: Int[Tensor, "block position"]
    """Token ids."""
    attention_mask: Bool[Tensor, "block position"]
    """False where a position is padding."""
    counted: Bool[Tensor, "block position"]
    """Positions that statistics count: answers where there are some, never padding, and BOS only by option."""
    corpus: Corpus
    """The corpus that the tokens come from."""
    part: Part
    """The part of the corpus."""
    documents: int
    """How many documents were read for all blocks."""
    answers: Bool[Tensor, "block position"] | None = None
    """Tokens that are to be predicted, such as the assistant's turns of a chat; all of them when None."""
    members: Int[Tensor, " block"] | None = None
    """Which of `corpus.members` each block is from, where the corpus is several."""
    understood: str = ""
    """What the rows were taken for, such as `100 chats, template of SmolLM2, 1,234 answer tokens of 3,400`."""
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
        for tensor in (self.input_ids, self.attention_mask, self.counted, self.answers):
            if tensor is not None:
                digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def rows(self, rows: slice | Int[Tensor, " row"]) -> "TokenBlocks":
        """Take some of the blocks, as wide as the longest of them.

        Args:
            rows: Which.

        Returns:
            Those blocks.
        """
        some = self.attention_mask[rows]
        width = int(some.any(0).sum()) if len(some) else self.width
        return replace(self, **{name: tensor[rows][..., :width] for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that has a row per block."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def predicted(self) -> Bool[Tensor, "block position"]:
        """The tokens that are to be predicted: answers, or everything but padding."""
        return self.attention_mask if self.answers is None else self.answers

    def influences(self) -> Bool[Tensor, "block position"]:
        """The positions that a gradient of the loss is summed over.

        Where only answers are predicted, their loss depends on the prompts too, so all of these count.
        """
        return self.counted if self.answers is None else self.attention_mask

    def labels(self) -> Int[Tensor, "block position"]:
        """What the model's own loss is taken on: the tokens to predict, which it shifts, and IGNORED for all others."""
        return self.input_ids.masked_fill(~self.predicted(), IGNORED)

    def queries(self) -> tuple[Bool[Tensor, "block position"], Int[Tensor, " prediction"]]:
        """Where the model predicts something that is known, and what it should be.

        Returns:
            The positions whose next token is in the block and to be predicted, and those next tokens, block by block.
        """
        known = self.attention_mask[:, :-1] & self.predicted()[:, 1:]
        return F.pad(known, (0, 1)), self.input_ids[:, 1:][known]

    def by_member(self) -> dict[str, "TokenBlocks"]:
        """The blocks of each corpus that this one is made of, by name; nothing where it is one."""
        if self.members is None:
            return {}
        found = {one.name: (self.members == number).nonzero().flatten() for number, one in enumerate(self.corpus.members)}
        return {
            name: replace(self.rows(rows), corpus=one, members=None)
            for (name, rows), one in zip(found.items(), self.corpus.members, strict=True)
        }

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
            and the fingerprint. Of rows with answers, `tokens` are those of the answers, and it says what was understood. JSON
            can hold all of it.
        """
        answers = {} if self.answers is None else {"understood": self.understood}
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
            **answers,
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

    Packed blocks are full: texts are joined by the EOS token, when the tokenizer has one, and cut into
    blocks without padding. Otherwise each document has a block of its own, cut to `block_size` and padded on
    the right. Either way a block begins with the BOS token if the tokenizer puts one there by itself, and no
    more documents are read than the budget needs.

    Rows with answers (prompts with completions, chats, labelled token ids) are never packed. Those longer than `block_size`
    are cut into several blocks, from their end backwards, and blocks without an answer are left out. Only answers count.

    Args:
        source: The corpus, or whatever `corpus` makes one of. Several share the budget equally, and their blocks take turns.
        tokenizer: The tokenizer of the model.
        tokens: How many tokens to read at most, in whole blocks, but at least one block. Without packing,
            documents are read until there are at least this many.
        part: The part of the corpus to read.
        block_size: Tokens a block.
        packed: Whether texts are packed into full blocks.
        excerpt: Packing takes at most this many tokens of a text, from its middle, so that a few long documents do
            not stand for a corpus; None takes all of it.
        bos: Whether statistics count the BOS position ("count") or not ("drop").

    Returns:
        The blocks. Fewer than asked for, with a warning in the log, when the part ends before.

    Raises:
        ConfigError: `tokens`, `block_size` or `excerpt` is too small.
        CorpusError: The part does not have enough tokens for one block.
    """
    prefix = bos_prefix(tokenizer)
    if tokens < 1 or block_size <= len(prefix) or (excerpt is not None and excerpt < 1):
        raise ConfigError(
            "The budget, an excerpt, and a block besides its BOS must have room for at least one token, "
            f"got tokens={tokens}, excerpt={excerpt} and block_size={block_size}. Ask for more."
        )
    opened = corpus(source)
    how = {"part": part, "block_size": block_size, "packed": packed, "excerpt": excerpt, "bos": bos}
    if opened.members:
        share = max(1, tokens // len(opened.members))
        return _taking_turns([token_blocks(one, tokenizer, tokens=share, **how) for one in opened.members], opened)
    documents = opened.examples(part)
    if opened.kind != "text":
        encode = Encoder(tokenizer, opened.chat, tuple(prefix))
        found = answer_rows(documents, encode, tokens, block_size, opened.name)
    elif packed:
        found = packed_rows(_texts(documents), tokenizer, tokens, block_size, excerpt)
    else:
        found = padded_rows(_texts(documents), tokenizer, tokens, block_size)
    if not found.rows:
        raise CorpusError(_too_few(found, opened, part, block_size))
    return _blocks(found, opened, part, tokenizer, tokens - tokens % block_size, len(prefix) if bos == "drop" else 0)


def _texts(documents: Iterator[Document]) -> Iterator[str]:
    """The texts of documents."""
    return (document.text for document in documents)


def _too_few(found: TokenRows, opened: Corpus, part: Part, block_size: int) -> str:
    """Say why a part has no block."""
    if not found.documents:
        return (
            f"The {part} part of corpus `{opened.name}` has 0 tokens, too few for one block, as no document is in it. Pass "
            "more, or splits of your own ({'train': ..., 'test': ...}), or split='all', by which each part has all of them."
        )
    if opened.kind != "text":
        return (
            f"The {part} part of corpus `{opened.name}` has {found.documents} rows, but none with an answer that can be "
            "predicted. A chat needs an assistant turn, a prompt a completion, and labels some tokens that are not -100."
        )
    return (
        f"The {part} part of corpus `{opened.name}` has {found.found} tokens, too few for one block of "
        f"{block_size}. Pass more text or a smaller block_size."
    )


def _blocks(
    found: TokenRows, opened: Corpus, part: Part, tokenizer: PreTrainedTokenizerBase, asked: int, uncounted: int
) -> TokenBlocks:
    """Stack rows, padded on the right, the first few positions of which do not count."""
    # Padding is masked, so where a tokenizer has none, any id of the vocabulary will do.
    ids = pad_sequence(
        list(map(torch.tensor, found.rows)), batch_first=True, padding_value=cast(int, tokenizer.pad_token_id or 0)
    )
    mask = torch.arange(ids.shape[1]) < torch.tensor(list(map(len, found.rows)))[:, None]
    answers = None if found.answers is None else pad_sequence(list(map(torch.tensor, found.answers)), batch_first=True)
    if answers is not None and bool((answers == mask).all()):
        answers = None
    counted = (mask if answers is None else answers).clone()
    counted[:, :uncounted] = False
    _warn_if_short(int(mask.sum()), asked, part, opened.name)
    template = template_name(tokenizer) if found.template else None
    said = understood(found, opened.kind, template, int(counted.sum()), int(mask.sum()))
    return TokenBlocks(ids, mask, counted, opened, part, found.documents, answers, understood=said)


def _taking_turns(several: list[TokenBlocks], whole: Corpus) -> TokenBlocks:
    """Put the blocks of several corpora together, so that any first few of them are of all."""
    width = max(blocks.width for blocks in several)
    order = torch.cat([(torch.arange(len(one.input_ids)) + 0.5) / len(one.input_ids) for one in several]).argsort(stable=True)
    members = torch.cat([torch.full((len(one.input_ids),), number) for number, one in enumerate(several)])
    answers = None if all(one.answers is None for one in several) else [one.predicted() for one in several]

    def stacked(tensors: list[Tensor]) -> Tensor:
        return torch.cat([F.pad(tensor, (0, width - tensor.shape[1])) for tensor in tensors])[order]

    return TokenBlocks(
        stacked([one.input_ids for one in several]),
        stacked([one.attention_mask for one in several]),
        stacked([one.counted for one in several]),
        whole,
        several[0].part,
        sum(one.documents for one in several),
        None if answers is None else stacked(answers),
        members[order],
        "; ".join(f"{one.corpus.name}: {one.understood}" for one in several),
    )


def _warn_if_short(had: int, asked: int, part: Part, name: str) -> None:
    """Say in the log that a part ended before the budget was met."""
    if had < asked:
        logger.warning("The %s part of corpus `%s` has %d of the %d tokens that were asked for.", part, name, had, asked)
