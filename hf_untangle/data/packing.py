"""From documents to rows of token ids, reading no more documents than a token budget needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import cast

from transformers import PreTrainedTokenizerBase

from hf_untangle.data.documents import Document
from hf_untangle.data.encoding import Encoder

Ids = list[int]
"""Token ids of one document or one row."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of token ids and what they were made of."""

    rows: list[Ids]
    """One list of ids per row, BOS included."""
    documents: int
    """How many documents they come from."""
    found: int
    """How many tokens those documents had, which may be too few for a row."""
    answers: list[list[bool]] | None = None
    """Which tokens of each row are to be predicted; all of them when None."""
    template: bool = False
    """Whether the documents passed through a chat template."""
    long: int = 0
    """How many documents were longer than a row, and are in several."""
    without: int = 0
    """How many documents had no answer that could be predicted, and are in none."""


def packed_rows(
    documents: Iterator[str], tokenizer: PreTrainedTokenizerBase, tokens: int, block_size: int, excerpt: int | None = None
) -> TokenRows:
    """Join documents into one stream and cut it into full rows.

    Each document is followed by the EOS token if the tokenizer has one, and each row begins with the BOS
    token if the tokenizer puts one before a text by itself. What is left of the stream after the last full
    row is dropped.

    Args:
        documents: The documents.
        tokenizer: The tokenizer.
        tokens: How many tokens all rows have together, rounded down to whole rows, but at least one row.
        block_size: Tokens a row.
        excerpt: From a document longer than this, only this many tokens of its middle are taken.

    Returns:
        The rows, fewer than asked for when the documents end before.
    """
    bos, eos = bos_prefix(tokenizer), _eos_suffix(tokenizer)
    room = block_size - len(bos)
    needed = max(1, tokens // block_size) * room
    pieces = _read(documents, tokenizer, needed, lambda ids: _middle(ids, excerpt) + eos)
    stream = list(chain.from_iterable(pieces))
    usable = min(needed, len(stream) - len(stream) % room)
    rows = [bos + stream[start : start + room] for start in range(0, usable, room)]
    return TokenRows(rows, len(pieces), len(stream))


def padded_rows(documents: Iterator[str], tokenizer: PreTrainedTokenizerBase, tokens: int, block_size: int) -> TokenRows:
    """Give each document a row of its own.

    Args:
        documents: The documents.
        tokenizer: The tokenizer.
        tokens: Documents are read until their rows have this many tokens.
        block_size: Where a row is cut off.

    Returns:
        The rows, of different lengths.
    """
    bos = bos_prefix(tokenizer)
    rows = _read(documents, tokenizer, tokens, lambda ids: (bos + ids)[:block_size])
    return TokenRows(rows, len(rows), sum(map(len, rows)))


def answer_rows(documents: Iterator[Document], encode: Encoder, tokens: int, block_size: int, name: str) -> TokenRows:
    """Give each document rows of its own, with the tokens that are answers.

    A document longer than a row is cut into several from its end backwards, so that its last answer has most before it, and
    rows without an answer are left out.

    Args:
        documents: Prompts with completions, chats, or token ids.
        encode: What turns them into token ids.
        tokens: Documents are read until their rows have this many tokens, prompts included.
        block_size: The longest row.
        name: What to call the corpus in errors.

    Returns:
        The rows, of different lengths.
    """
    rows, answers = [], []
    read = found = long = without = 0
    template = False
    while found < tokens and (document := next(documents, None)) is not None:
        read += 1
        ids, wanted = encode(document.content, name)
        template |= encode.passes_template(document.content)
        pieces = [piece for piece in _from_the_end(len(ids), block_size) if any(wanted[piece][1:])]
        long += len(ids) > block_size and bool(pieces)
        without += not pieces
        for piece in pieces:
            rows.append(ids[piece])
            answers.append(wanted[piece])
            found += len(rows[-1])
    return TokenRows(rows, read, found, answers, template, long, without)


def _from_the_end(length: int, size: int) -> list[slice]:
    """Cut a length into pieces of a size, the first of which may be shorter."""
    return [slice(max(0, end - size), end) for end in range(length, 0, -size)][::-1]


def bos_prefix(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Find the BOS token that a tokenizer puts before a text by itself.

    Args:
        tokenizer: The tokenizer.

    Returns:
        The BOS id alone in a list, or an empty list when there is none or it is not added.
    """
    first = cast(Ids, tokenizer("a")["input_ids"])[:1]
    return first if first == [tokenizer.bos_token_id] else []


def _middle(ids: Ids, length: int | None) -> Ids:
    """The middle of a document, or all of it if it is no longer than that."""
    start = 0 if length is None else max(0, (len(ids) - length) // 2)
    return ids[start : None if length is None else start + length]


def _eos_suffix(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Give the EOS id alone in a list, or nothing when the tokenizer has none."""
    return [] if tokenizer.eos_token_id is None else [cast(int, tokenizer.eos_token_id)]


def _read(documents: Iterator[str], tokenizer: PreTrainedTokenizerBase, needed: int, shape: Callable[[Ids], Ids]) -> list[Ids]:
    """Tokenise documents until their shaped ids are as many as needed."""
    pieces: list[Ids] = []
    while needed > 0 and (batch := _batch(documents, needed)):
        # `verbose=False` because a document may well be longer than the model's context: it is cut later.
        encoded = tokenizer(batch, add_special_tokens=False, return_attention_mask=False, verbose=False)
        for ids in encoded["input_ids"]:
            if needed > 0:
                pieces.append(shape(ids))
                needed -= len(pieces[-1])
    return pieces


def _batch(documents: Iterator[str], needed: int) -> list[str]:
    """Take documents with about as many characters as tokens are needed.

    A token spans a character or more, so these are hardly ever too many documents, and as they yield a
    good part of what is needed, few rounds are.
    """
    batch: list[str] = []
    characters = 0
    while characters < needed and (document := next(documents, None)) is not None:
        batch.append(document)
        characters += len(document)
    return batch
