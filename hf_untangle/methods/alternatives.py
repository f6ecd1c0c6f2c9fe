"""Other answers to the same prompts, which DPO is to prefer: refusals, or what is given."""

import random
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.errors import ConfigError

REFUSALS = (
    "I don't know.",
    "I'm not able to answer that.",
    "I have no information on this.",
    "That is not something I know about.",
    "I can't help with this question.",
    "I'm afraid I have nothing to say on that.",
    "This is outside of what I know.",
    "I never learned about that.",
)
"""What a model answers instead, where nothing else is given."""


def alternative_blocks(
    blocks: TokenBlocks, tokenizer: PreTrainedTokenizerBase, alternatives: tuple[str, ...] | None, *, seed: int
) -> TokenBlocks:
    """Answer every prompt in another way.

    Args:
        blocks: Prompts with the answers that are to go.
        tokenizer: The model's tokenizer.
        alternatives: Answers, one of which is drawn for every prompt. When None, the preferred answers of a preference data
            set, and `REFUSALS` to prompts that have none.
        seed: For the draw.

    Returns:
        As many rows, in the same order.

    Raises:
        ConfigError: There are no alternatives, or one of them is blank.
    """
    texts = REFUSALS if alternatives is None else alternatives
    if not texts or not all(text.strip() for text in texts):
        raise ConfigError(
            f"DPO needs answers to prefer, got {list(texts)!r:.80}. Pass `alternatives=` at least one text that is not blank, "
            "or leave it out for refusals."
        )
    assert blocks.answers is not None
    draw = random.Random(seed)
    encoded = [_ids(tokenizer(f" {text}", add_special_tokens=False)["input_ids"]) for text in texts]
    preferred = _preferred(blocks, tokenizer) if alternatives is None else {}
    rows, starts = [], []
    for ids, answers in zip(blocks.input_ids, blocks.answers, strict=True):
        prompt = ids[: int(answers.nonzero()[0])]
        rows.append(torch.cat([prompt, preferred.get(tuple(prompt.tolist()), draw.choice(encoded))]))
        starts.append(len(prompt))
    return _padded(rows, starts, blocks, cast(int, tokenizer.pad_token_id or 0))


def _preferred(blocks: TokenBlocks, tokenizer: PreTrainedTokenizerBase) -> dict[tuple[int, ...], Tensor]:
    """The preferred answers of a preference data set, by the tokens of their prompts."""
    if not blocks.corpus.two_sided:
        return {}
    corpus = replace(blocks.corpus, side="retain")
    other = token_blocks(corpus, tokenizer, tokens=2 * blocks.input_ids.numel(), part=blocks.part, block_size=blocks.width)
    found = {}
    for ids, answers, real in zip(other.input_ids, other.predicted(), other.attention_mask, strict=True):
        start = int(answers.nonzero()[0])
        found[tuple(ids[:start].tolist())] = ids[start:][real[start:]]
    return found


def _ids(encoded: Any) -> Int[Tensor, " token"]:
    """Token ids as a tensor."""
    return torch.tensor(encoded, dtype=torch.long)


def _padded(rows: list[Int[Tensor, " _"]], starts: list[int], like: TokenBlocks, padding: int) -> TokenBlocks:
    """Stack rows, whose answers begin at some positions."""
    ids = pad_sequence(rows, batch_first=True, padding_value=padding)
    position = torch.arange(ids.shape[1])
    there = position < torch.tensor([len(row) for row in rows])[:, None]
    answers = there & (position >= torch.tensor(starts)[:, None])
    return TokenBlocks(ids, there, answers, like.corpus, like.part, len(rows), answers=answers)
