"""Reading a corpus into blocks of tokens."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from hf_untangle.arguments import checked_arguments
from hf_untangle.data.chat_templates import template_name
from hf_untangle.data.corpora import Corpus, CorpusSource, corpus
from hf_untangle.data.documents import Document, Part
from hf_untangle.data.encoding import Encoder
from hf_untangle.data.packing import TokenRows, answer_rows, bos_prefix, packed_rows, padded_rows
from hf_untangle.data.tokens import TokenBlocks
from hf_untangle.data.understood import understood
from hf_untangle.errors import ConfigError, CorpusError

logger = logging.getLogger("hf_untangle")


@checked_arguments
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
    how = {"part": part, "block_size": block_size, "packed": packed, "excerpt": excerpt, "bos": bos}
    blocks = as_many_blocks(source, tokenizer, tokens=tokens, **how)
    warn_if_short(blocks, tokens, block_size)
    return blocks


def as_many_blocks(
    source: CorpusSource,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: int,
    part: Part,
    block_size: int,
    packed: bool = True,
    excerpt: int | None = 1000,
    bos: Literal["count", "drop"] = "count",
) -> TokenBlocks:
    """Read blocks as `token_blocks` does, as many as there are up to a number of tokens, and without a warning.

    Args:
        source: As in `token_blocks`.
        tokenizer: As there.
        tokens: As there.
        part: As there.
        block_size: As there.
        packed: As there.
        excerpt: As there.
        bos: As there.

    Returns:
        The blocks.

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
        return taking_turns([as_many_blocks(one, tokenizer, tokens=share, **how) for one in opened.members], opened)
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
    return _blocks(found, opened, part, tokenizer, len(prefix) if bos == "drop" else 0)


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


def _blocks(found: TokenRows, opened: Corpus, part: Part, tokenizer: PreTrainedTokenizerBase, uncounted: int) -> TokenBlocks:
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
    template = template_name(tokenizer) if found.template else None
    said = understood(found, opened.kind, template, int(counted.sum()), int(mask.sum()))
    return TokenBlocks(ids, mask, counted, opened, part, found.documents, answers, understood=said)


def joined_blocks(several: list[TokenBlocks]) -> TokenBlocks:
    """Put blocks of several corpora together, however many there are of each, so that they take turns.

    Args:
        several: Blocks.

    Returns:
        All of them, as blocks of one corpus with members.
    """
    members = tuple(one.corpus for one in several)
    about = {name: " + ".join(getattr(one, name) for one in members) for name in ("name", "source", "license")}
    return taking_turns(several, replace(members[0], origin="several", members=members, **about))


def taking_turns(several: list[TokenBlocks], whole: Corpus) -> TokenBlocks:
    """Put the blocks of several corpora together, so that any first few of them are of all.

    Args:
        several: The blocks of each.
        whole: The corpus that has them as its members.

    Returns:
        All blocks.
    """
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


def warn_if_short(blocks: TokenBlocks, tokens: int, block_size: int) -> None:
    """Say in the log that the part of a corpus ended before as many tokens were read as were asked for.

    Args:
        blocks: What was read.
        tokens: What was asked for, of all corpora together.
        block_size: Tokens per block.
    """
    members = blocks.by_member().values() or [blocks]
    share = max(1, tokens // len(members))
    for one in members:
        had, asked = int(one.attention_mask.sum()), share - share % block_size
        if had < asked:
            logger.warning(
                "The %s part of corpus `%s` has %d of the %d tokens that were asked for.", one.part, one.corpus.name, had, asked
            )
