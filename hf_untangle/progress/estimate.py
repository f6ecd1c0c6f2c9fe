"""How long something will take: from the tokens that are left, and from how fast tokens of each kind have gone so far."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

WorkKind = Literal["forward", "statistics", "gradients", "training"]
"""What is done to a token: a pass forward, one that collects statistics, one forward and back, or a step of training."""
Work = Mapping[WorkKind, int | float]
"""Tokens of each kind of work."""

COST: dict[WorkKind, int] = {"forward": 1, "statistics": 1, "gradients": 3, "training": 3}
"""Passes forward that a token of each kind costs: a pass backward counts as two (arXiv:2001.08361)."""


def passes(work: Work) -> float:
    """Sum work up.

    Args:
        work: Tokens of each kind.

    Returns:
        Passes forward of a token that cost as much.
    """
    return float(sum(COST[kind] * tokens for kind, tokens in work.items()))


class Estimate:
    """Work that is planned and work that is done, from which the time left follows.

    A kind of work that has been timed in this very run takes as long again; one that has not yet takes what its cost says.
    """

    def __init__(self) -> None:
        """Begin with nothing planned and nothing done."""
        self._planned: Counter[WorkKind] = Counter()
        self._done: Counter[WorkKind] = Counter()
        self._seconds: Counter[WorkKind] = Counter()

    def plan(self, work: Work) -> None:
        """Add work that is ahead.

        Args:
            work: Tokens of each kind.
        """
        self._planned.update(dict(work))  # type: ignore[arg-type]

    def add(self, kind: WorkKind, tokens: int | float, seconds: int | float) -> None:
        """Count work that is done.

        Args:
            kind: What was done.
            tokens: To how many tokens.
            seconds: How long it took.
        """
        self._done[kind] += tokens  # type: ignore[assignment]
        self._seconds[kind] += seconds  # type: ignore[assignment]

    @property
    def total(self) -> float:
        """Everything that was planned, in passes forward of a token."""
        return passes(self._planned)

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1; work beyond what was planned of a kind does not count."""
        done = sum(COST[kind] * min(tokens, self._planned[kind]) for kind, tokens in self._done.items())
        return float(done) / self.total if self.total else 0.0

    def left(self, elapsed: int | float) -> float | None:
        """Seconds until everything that was planned is done.

        Args:
            elapsed: Seconds since the first work began; what was not work, such as selecting neurons, is added in proportion.

        Returns:
            The estimate; None before anything was timed.
        """
        busy, done = float(sum(self._seconds.values())), sum(COST[kind] * tokens for kind, tokens in self._done.items())
        if not busy or not done:
            return None
        ahead: dict[WorkKind, float] = {kind: max(0.0, self._planned[kind] - self._done[kind]) for kind in COST}
        seconds = sum(tokens * self._per_token(kind, busy / done) for kind, tokens in ahead.items())
        return float(seconds * max(1.0, elapsed / busy))

    def _per_token(self, kind: WorkKind, usual: float) -> float:
        """Seconds a token of one kind."""
        return self._seconds[kind] / self._done[kind] if self._done[kind] else COST[kind] * usual


def about(seconds: int | float) -> str:
    """Write a time as roughly as it is known.

    Args:
        seconds: At least 0.

    Returns:
        `a few seconds`, `40 seconds`, `4 minutes` or `2 h 10 min`.
    """
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"{10 * round(seconds / 10)} seconds"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} minutes"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def change(drop: int | float) -> str:
    """Write what became of an accuracy.

    Args:
        drop: The relative drop; NaN where there was nothing to lose.

    Returns:
        `-31.2%` for a drop of 0.312, and `+5.2%` for one of -0.052.
    """
    return "n/a" if drop != drop else f"{-drop:+z.1%}"  # noqa: PLR0124 (NaN alone differs from itself)
