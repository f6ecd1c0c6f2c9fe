"""The k lowest of many scores that lie in many tensors, without ever sorting them or bringing them together.

Floats that are not negative are ordered as their bit patterns are, read as integers. So one histogram of the upper bits
says in which narrow interval the k-th lowest score lies, and a second one, of the lower bits inside it, says which it is.
No more than one tensor's scores are in memory at a time, and the answer is exact, ties included.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_untangle.errors import StatisticsError

LOW_BITS = 20
LOW = 2**LOW_BITS
HIGH = 2 ** (31 - LOW_BITS)
INFINITE = 0x7F800000 >> LOW_BITS
"""The upper bits of infinity; those of NaN are no lower."""

Scores = Callable[[], Iterable[Float[Tensor, "..."]]]
"""Gives the scores of every tensor in turn, each time it is called; none of them negative, all in float32."""


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
        self._high = sum((_histogram(_keys(one) >> LOW_BITS, HIGH) for one in scores()), torch.zeros(HIGH, dtype=torch.long))
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
        high, rest = _reach(self._high, count)
        low = torch.zeros(LOW, dtype=torch.long)
        for scores in self._scores():
            keys = _keys(scores)
            low += _histogram(keys[(keys >> LOW_BITS) == high] & (LOW - 1), LOW)
        key, ties = _reach(low, rest)
        return Cut((high << LOW_BITS) | key, ties)

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


def _histogram(keys: Int[Tensor, " key"], bins: int) -> Int[Tensor, " bin"]:
    """Count keys, each a bin of its own."""
    return torch.bincount(keys, minlength=bins).cpu()


def _reach(counts: Int[Tensor, " bin"], rank: int) -> tuple[int, int]:
    """The bin in which the score of a rank lies (1 is the lowest), and its rank inside that bin."""
    upto = counts.cumsum(0)
    reached = int(torch.searchsorted(upto, rank))
    return reached, rank - int(upto[reached] - counts[reached])
