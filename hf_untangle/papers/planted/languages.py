"""Two regular languages that share words, so that a model of one predicts some of the other without having seen it."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus, Part

VOCABULARY = 24
"""Tokens that there are."""
LENGTH = 32
"""Tokens in a block."""
GRAMMATICAL = 0.8
"""Probability that the next token is the one that the language asks for; otherwise it is any word."""


@dataclass(frozen=True)
class Language:
    """A regular grammar: which words there are, and which of them follows which."""

    words: Int[Tensor, " word"]
    """The tokens of the language."""
    follower: Int[Tensor, " token"]
    """The token that follows each token."""

    def text(self, blocks: int, seed: int) -> Int[Tensor, "block position"]:
        """Write blocks of it: each token is the follower of the one before, or any word.

        Args:
            blocks: How many.
            seed: For every draw.

        Returns:
            Token ids.
        """
        generator = torch.Generator().manual_seed(seed)
        ids = self.words[torch.randint(len(self.words), (blocks, LENGTH), generator=generator)]
        follows = torch.rand(blocks, LENGTH, generator=generator) < GRAMMATICAL
        for position in range(1, LENGTH):
            ids[:, position] = torch.where(follows[:, position], self.follower[ids[:, position - 1]], ids[:, position])
        return ids


def languages(seed: int) -> tuple[Language, Language]:
    """Draw two languages of 20 words: 8 words have the same follower in both, 8 another one, and 4 are of one language alone.

    Args:
        seed: For the draw.

    Returns:
        The first, which is to be retained, and the second, which is to be forgotten.
    """
    generator = torch.Generator().manual_seed(seed)
    common, contested, own, other = torch.randperm(VOCABULARY, generator=generator).split([8, 8, 4, 4])

    def language(words: Tensor) -> Language:
        follower = torch.arange(VOCABULARY)
        follower[common] = common.roll(-1)
        rest = torch.cat([contested, words])[torch.randperm(12, generator=generator)]
        follower[rest] = rest.roll(-1)
        return Language(torch.cat([common, rest]), follower)

    return language(own), language(other)


def as_blocks(ids: Int[Tensor, "block position"], name: str, part: Part) -> TokenBlocks:
    """Bring tokens into the form that statistics and metrics read.

    Args:
        ids: The tokens.
        name: What the corpus is called.
        part: The part that they are.

    Returns:
        Full blocks, every token of which counts.
    """
    everywhere = torch.ones_like(ids, dtype=torch.bool)
    made = Corpus(name, "strings", "drawn from a regular language", "Apache-2.0", lambda: iter(()))
    return TokenBlocks(ids, everywhere, everywhere, made, part, documents=len(ids))
