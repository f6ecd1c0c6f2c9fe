"""The one bar of a whole call: its phase, what was lost so far, and the time left."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from hf_untangle.progress.bars import SHOWN_LEFT, Bar, Drawing, current
from hf_untangle.progress.estimate import Work, about, change, passes
from hf_untangle.progress.screens import Line, screen

FASTER = 2 / 3
"""Part of the work that something quicker has at the most, for it to be worth a word."""

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


class Whole(Bar):
    """How far a whole call is."""

    def __init__(self, what: str, drawing: Drawing) -> None:
        """Begin at zero.

        Args:
            what: What the call does, such as `unlearning`.
            drawing: Where it is drawn.
        """
        super().__init__(what, 1, "", None, 1)
        self._drawing = drawing
        self._phase = self._lost = ""
        self._work_began: float | None = None

    def plan(self, work: Work) -> None:
        """Say what is ahead, so that the time left is known.

        Args:
            work: Tokens of each kind of work.
        """
        if not self._drawing.estimate.total:
            # What came before, such as writing text, is no measure of how long this takes.
            self._work_began = time.perf_counter()
        self._drawing.estimate.plan(work)

    def phase(self, text: str) -> None:
        """Say what is done now.

        Args:
            text: Such as `step 2 of 4`.
        """
        self._phase = text
        if self._work_began is None:
            self._work_began = time.perf_counter()
        share = self._drawing.estimate.share
        parts = [text, f"{share:.0%} done" if share else "", self._lost, self._time_left()]
        self._drawing.screen.begin(f"{self.what}: {', '.join(filter(None, parts))}")
        self._drawing.draw(now=True)

    def lost(self, **drops: int | float) -> None:
        """Show what was lost so far.

        Args:
            **drops: Relative drops by corpus, such as `forget=0.31`.
        """
        self._lost = ", ".join(f"{name} {change(drop)}" for name, drop in drops.items())
        self._drawing.draw()

    def predict(
        self, per_token: Callable[[], float | None], others: Mapping[str, Work], at_most: int | float | None = None
    ) -> None:
        """Time a first batch, see the function of that name."""
        total = self._drawing.estimate.total
        seconds = per_token() if total else None
        if seconds is None:
            return
        limit = float("inf") if at_most is None else float(at_most)
        faster = (
            f"{name} takes {about(seconds * passes(work))}" for name, work in others.items() if passes(work) < FASTER * total
        )
        mine = f"about {about(min(limit, seconds * total))} on this machine"
        self._drawing.screen.say(f"{self.what}: {'; '.join([mine, *faster])}")

    def line(self) -> Line:
        """The bar as it is now."""
        parts = (self._phase, self._lost, self._time_left())
        return Line(self.what, self._drawing.estimate.share, ", ".join(filter(None, parts)))

    def last_line(self) -> Line:
        """What is left to see of it."""
        return Line(self.what, 1.0, ", ".join(filter(None, (f"done in {about(self.elapsed)}", self._lost))))

    def _time_left(self) -> str:
        """How long it will take yet, in words; nothing where that is not known."""
        if self._work_began is None or self.elapsed < SHOWN_LEFT:
            return ""
        left = self._drawing.estimate.left(time.perf_counter() - self._work_began)
        return "" if left is None else f"about {about(left)} left"


@contextmanager
def whole(what: str, *, progress: bool = True) -> Iterator[None]:
    """Show one bar for all of a call inside the `with` block; what happens in it is shown beneath and vanishes.

    A call within a call has no bar of its own: it speaks through the one around it. Where the block fails, nothing is left
    of the bars.

    Args:
        what: What the call does, such as `unlearning`.
        progress: Whether to show it.

    Yields:
        Nothing: `phase`, `lost`, `plan_work` and `predict` find the bar.
    """
    if current.get() is not None:
        yield
        return
    drawing = Drawing(screen(progress=progress))
    bar, ended, token = Whole(what, drawing), False, current.set(drawing)
    try:
        with drawing.beneath(bar):
            yield
        ended = True
    finally:
        current.reset(token)
        drawing.screen.end(bar.last_line() if ended else None)


def one_bar(what: str) -> Callable[[Callable[Arguments, Returned]], Callable[Arguments, Returned]]:
    """Let a function with a keyword `progress` show one bar for each call.

    Args:
        what: What the call does, such as `unlearning`.

    Returns:
        A decorator.
    """

    def decorate(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
        @wraps(function)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
            with whole(what, progress=bool(kwargs.get("progress", True))):
                return function(*args, **kwargs)

        return call

    return decorate


def phase(text: str) -> None:
    """Say what the call around is doing now.

    Args:
        text: Such as `step 2 of 4`.
    """
    if (bar := _around()) is not None:
        bar.phase(text)


def lost(**drops: int | float) -> None:
    """Show on the bar of the call around what was lost so far.

    Args:
        **drops: Relative drops by corpus, such as `forget=0.31`.
    """
    if (bar := _around()) is not None:
        bar.lost(**drops)


def plan_work(work: Work) -> None:
    """Say what the call around has ahead, so that the time left is known.

    Args:
        work: Tokens of each kind of work.
    """
    if (bar := _around()) is not None:
        bar.plan(work)


def predict(
    per_token: Callable[[], float | None], others: Mapping[str, Work] | None = None, *, at_most: int | float | None = None
) -> None:
    """Time a first batch, and say how long the call around will take, before anything long begins.

    Args:
        per_token: Gives the seconds of a pass forward per token; None where it cannot be told.
        others: What else could be run, and its work, such as a quicker preset.
        at_most: Seconds after which the call ends in any case.
    """
    if (bar := _around()) is not None:
        bar.predict(per_token, others or {}, at_most)


def _around() -> Whole | None:
    """The bar of the call around."""
    drawing = current.get()
    bar = drawing.bars[0] if drawing is not None and drawing.bars else None
    return bar if isinstance(bar, Whole) else None
