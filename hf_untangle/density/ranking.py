"""The k lowest of many scores that lie in many tensors, without ever sorting them or bringing them together.

Floats that are not negative are ordered as their bit patterns are, read as integers. So a histogram of the upper bits says in
which interval the k-th lowest score lies, and two more, of the bits below inside that interval, say which score it is: a
radix select. No more than one tensor's scores are in memory at a time, and the answer is exact, ties included.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_untangle.errors import StatisticsError

DIGIT = 10
"""Bits that a histogram tells apart, after the first one, which has the 11 bits above them all."""
SHIFTS = (DIGIT, 0)
"""Where the lower two digits of a key begin."""
HIGH = 2 * DIGIT
"""Where its upper bits begin."""
INFINITE = 0x7F800000 >> HIGH
"""The upper bits of infinity; those of NaN are no lower."""

Scores = Callable[[], Iterable[Float[Tensor, "..."]]]
"""Gives the scores of every tensor in turn, each time it is called; all non-negative, in float32."""


@dataclass(frozen=True)
class Cut:
    """Where a ranking is cut."""

    key: int
    """The bits of the highest score that goes; everything below it goes."""
    ties: int
    """How many of those that have exactly this score go, the first ones first."""


NOTHING = Cut(key=-1, ties=0)


class Ranking:
    """Finds where to cut for any number of lowest scores."""

    def __init__(self, scores: Scores) -> None:
        """Count the scores by their upper bits.

        Args:
            scores: The scores.

        Raises:
            StatisticsError: A score is infinite or NaN.
        """
        self._scores = scores
        self._high = _histogram((_keys(one) >> HIGH for one in scores()), 31 - HIGH)
        if self._high[INFINITE:].any():
            raise StatisticsError(
                "Scores must be finite to be ranked, but some are infinite or NaN. Check the weights, and the activations "
                "where the score uses them."
            )
        self.total = int(self._high.sum())
        """How many scores there are."""

    def cut(self, count: int) -> Cut:
        """Find the cut below which exactly `count` scores lie, ties shared out.

        Args:
            count: How many of the lowest scores go, at most all of them.

        Returns:
            The cut.
        """
        if count == 0:
            return NOTHING
        key, ties = _reach(self._high, count)
        for shift in SHIFTS:
            digits = ((inside >> shift) & (2**DIGIT - 1) for inside in self._keys_with(key, shift + DIGIT))
            digit, ties = _reach(_histogram(digits, DIGIT), ties)
            key = (key << DIGIT) | digit
        return Cut(key, ties)

    def _keys_with(self, prefix: int, shift: int) -> Iterator[Int[Tensor, " key"]]:
        """The keys, tensor by tensor, whose bits from `shift` on are these."""
        for scores in self._scores():
            keys = _keys(scores)
            yield keys[(keys >> shift) == prefix]

    def lowest(self, count: int) -> Iterator[Bool[Tensor, "..."]]:
        """Say tensor by tensor which scores go.

        Args:
            count: How many go, over all tensors.

        Yields:
            One mask a tensor, in its shape: True where a score goes.
        """
        cut = self.cut(count)
        ties = cut.ties
        for scores in self._scores():
            keys = _keys(scores)
            goes = keys < cut.key
            tied = (keys == cut.key).nonzero()[:ties, 0]
            goes[tied] = True
            ties -= len(tied)
            yield goes.view(scores.shape)


def _keys(scores: Float[Tensor, "..."]) -> Int[Tensor, " score"]:
    """Read scores as the integers that order them."""
    return scores.flatten().view(torch.int32)


def _histogram(keys: Iterable[Int[Tensor, " key"]], bits: int) -> Int[Tensor, " bin"]:
    """Count the keys of many tensors, each number a bin of its own."""
    counts = torch.zeros(2**bits, dtype=torch.long)
    for some in keys:
        counts += torch.bincount(some, minlength=2**bits).cpu()
    return counts


def _reach(counts: Int[Tensor, " bin"], rank: int) -> tuple[int, int]:
    """The bin in which the score of a rank lies (1 is the lowest), and its rank inside that bin."""
    upto = counts.cumsum(0)
    reached = int(torch.searchsorted(upto, rank))
    return reached, rank - int(upto[reached] - counts[reached])
