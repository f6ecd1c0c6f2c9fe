"""Other answers to the same prompts, which DPO is to prefer: refusals, or what is given."""

import random
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from hf_untangle.data.answers import AnswerBlocks, second_halves
from hf_untangle.data.batches import TokenBlocks
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


def with_answers(blocks: TokenBlocks) -> AnswerBlocks:
    """See blocks as prompts with answers.

    Args:
        blocks: Rows; of running text, which has no answers, the second half of each is the answer to the first.

    Returns:
        The rows with their answers.
    """
    return blocks if isinstance(blocks, AnswerBlocks) else second_halves(blocks)


def alternative_blocks(
    blocks: AnswerBlocks, tokenizer: PreTrainedTokenizerBase, alternatives: tuple[str, ...] | None, *, seed: int
) -> AnswerBlocks:
    """Answer every prompt in another way.

    Args:
        blocks: Prompts with the answers that are to go.
        tokenizer: The model's tokenizer.
        alternatives: Answers, one of which is drawn for every prompt; `REFUSALS` when None.
        seed: For the draw.

    Returns:
        As many rows, in the same order.

    Raises:
        ConfigError: There are no alternatives, or one of them is empty.
    """
    texts = REFUSALS if alternatives is None else alternatives
    if not texts or not all(text.strip() for text in texts):
        raise ConfigError(
            f"DPO needs answers to prefer, got {list(texts)!r:.80}. Pass `alternatives=` at least one text that is not blank, "
            "or leave it out for refusals."
        )
    draw = random.Random(seed)
    encoded = [cast(list[int], tokenizer(f" {text}", add_special_tokens=False)["input_ids"]) for text in texts]
    rows, starts = [], []
    for ids, answers in zip(blocks.input_ids, blocks.answers, strict=True):
        start = int(answers.nonzero()[0])
        answer = torch.tensor(draw.choice(encoded))
        rows.append(torch.cat([ids[:start], answer]))
        starts.append(start)
    return _padded(rows, starts, blocks, cast(int, tokenizer.pad_token_id or 0))


def _padded(rows: list[Int[Tensor, " token"]], starts: list[int], like: AnswerBlocks, padding: int) -> AnswerBlocks:
    """Stack rows, whose answers begin at some positions."""
    ids = pad_sequence(rows, batch_first=True, padding_value=padding)
    position = torch.arange(ids.shape[1])
    there = position < torch.tensor([len(row) for row in rows])[:, None]
    answers = there & (position >= torch.tensor(starts)[:, None])
    return AnswerBlocks(ids, there, there, like.corpus, like.part, len(rows), answers=answers)
