"""Blocks in which only an answer is predicted, and what comes before it is given."""

import operator
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus
from hf_untangle.data.packing import Ids, bos_prefix
from hf_untangle.errors import CorpusError

WIDTH = 1024
"""Most tokens of a prompt and its answer together, or fewer where the tokenizer knows that the model takes fewer."""


def answer_blocks(
    prompts: Sequence[str],
    answers: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    name: str = "answers",
    *,
    templated: bool = False,
) -> TokenBlocks:
    """Make a block of each prompt with its answer.

    A space is put between the two where neither has white space there, and BOS where the tokenizer does so, unless a chat
    template has written the prompts. Text is turned into tokens as a whole, and the answer
    begins with the first token that the prompt alone does not have, so that a token over the join belongs to the answer. Of
    what is too long for a block the beginning of the prompt is left out.

    Args:
        prompts: What is given; may be empty where the tokenizer begins every text with BOS.
        answers: What is predicted, one a prompt.
        tokenizer: The tokenizer of the model.
        name: What to call them.
        templated: Whether the prompts are written by a chat template, special tokens included, up to where answers begin.

    Returns:
        The blocks, padded on the right.

    Raises:
        CorpusError: There are none, or an answer has no token that can be predicted, or too many.
    """
    if not answers or len(prompts) != len(answers):
        raise CorpusError(f"Every prompt needs one answer, got {len(prompts)} prompts and {len(answers)} answers.")
    put = operator.add if templated else joined
    wholes = [put(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    bos = [] if templated else bos_prefix(tokenizer)
    given, all_of_it = ([bos + ids for ids in _encode(texts, tokenizer)] for texts in (list(prompts), wholes))
    starts = [_common(prompt, whole) for prompt, whole in zip(given, all_of_it, strict=True)]
    width = min(WIDTH, tokenizer.model_max_length)
    for start, whole, text in zip(starts, all_of_it, wholes, strict=True):
        if not max(1, start) < len(whole) < start + width:
            raise CorpusError(
                f"An answer needs a token before it and 1 to {width - 1} tokens of its own, but that in `{text:.60}` has "
                f"{len(whole) - start}, after {start}. Pass a prompt, and an answer that is neither empty nor longer."
            )
    rows = [torch.tensor(whole[-width:]) for whole in all_of_it]
    lengths = [len(whole) - start for start, whole in zip(starts, all_of_it, strict=True)]
    corpus = Corpus(name, "strings", "prompts and answers that were passed in", "unknown", lambda: iter(wholes))
    return _blocks(rows, lengths, cast(int, tokenizer.pad_token_id or 0), corpus)


def second_halves(blocks: TokenBlocks) -> TokenBlocks:
    """Take the second half of every block for the answer to the first, where it has no answer of its own.

    Args:
        blocks: Running text, padded on the right at most; blocks with answers are given back as they are.

    Returns:
        The same blocks; those of a single token, of which nothing can be predicted, are left out.

    Raises:
        CorpusError: No block has two tokens.
    """
    if blocks.answers is not None:
        return blocks
    length = blocks.attention_mask.sum(1, keepdim=True)
    long = (length > 1).flatten()
    if not long.any():
        raise CorpusError(
            f"A text must have two tokens to be continued, but no text of {blocks.corpus.name} has. Pass longer ones."
        )
    later = torch.arange(blocks.width) >= (length + 1) // 2
    halved = replace(blocks, documents=int(long.sum()), answers=later & blocks.attention_mask)
    return halved.rows(long.nonzero().flatten())


def joined(prompt: str, answer: str) -> str:
    """Put an answer after its prompt.

    Args:
        prompt: What comes before.
        answer: What follows.

    Returns:
        Both, with a space between them where neither has white space there.
    """
    apart = not prompt or not answer or prompt[-1].isspace() or answer[0].isspace()
    return prompt + ("" if apart else " ") + answer


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
    """The token ids of some texts, without special tokens."""
    return cast(list[Ids], tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])


def _common(prompt: Ids, whole: Ids) -> int:
    """How many tokens a text begins with that its prompt alone begins with too."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False)))


def _blocks(rows: list[Tensor], lengths: list[int], padding: int, corpus: Corpus) -> TokenBlocks:
    """Stack rows whose last few tokens are answers."""
    ends = torch.tensor([len(row) for row in rows])[:, None]
    ids = pad_sequence(rows, batch_first=True, padding_value=padding)
    position = torch.arange(ids.shape[1])
    there = position < ends
    answers = there & (position >= ends - torch.tensor(lengths)[:, None])
    return TokenBlocks(ids, there, answers, corpus, "test", len(rows), answers=answers)
