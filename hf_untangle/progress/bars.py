"""Bars: one by itself, or beneath the bar of the call that it is a part of."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from hf_untangle.progress.estimate import Estimate, WorkKind, about
from hf_untangle.progress.screens import Line, Nowhere, Screen, screen

SOON = 0.3
"""Seconds after which a bar beneath another is drawn: what is over sooner only flickers."""
SHOWN_LEFT = 5
"""Seconds after which the time left is shown: before, it is noise."""


class Bar:
    """How far one thing is."""

    def __init__(self, what: str, total: int | float, unit: str, kind: WorkKind | None, weight: int | float) -> None:
        """Begin at zero, see `track`."""
        self.what, self.total, self.unit = what, total, unit
        self.kind: WorkKind | None = kind
        self.weight = weight
        self.note = ""
        self.done: int | float = 0
        self._skipped: int | float = 0
        self._start = self._last = time.perf_counter()
        self._owner: Drawing | None = None

    def update(self, count: int | float = 1) -> None:
        """Count what was done since the last time.

        Args:
            count: How much, in the unit of the bar.
        """
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self.done += count
        if self._owner is not None:
            if self.kind is not None:
                self._owner.estimate.add(self.kind, count * self.weight, seconds)
            self._owner.draw()

    def resume_at(self, done: int | float) -> None:
        """Begin in the middle, where an earlier run was stopped.

        Args:
            done: How much was done then, which took no time now.
        """
        if self._owner is not None and self.kind is not None:
            skipped: dict[WorkKind, int | float] = {self.kind: (self.done - done) * self.weight}
            self._owner.estimate.plan(skipped)
        self.done = self._skipped = done
        self._last = time.perf_counter()

    def say(self, note: str) -> None:
        """Show something behind the bar, such as the last loss.

        Args:
            note: What to show.
        """
        self.note = note
        if self._owner is not None:
            self._owner.draw()

    def line(self) -> Line:
        """The bar as it is now."""
        share = min(1.0, self.done / self.total) if self.total else 1.0
        amount = f"{self.done:,.0f}/{self.total:,.0f} {self.unit}s" if self.unit else ""
        left = self._left()
        parts = [amount, self._rate(), self.note, "" if left is None else f"{about(left)} left"]
        return Line(self.what, share, ", ".join(filter(None, parts)))

    def last_line(self) -> Line:
        """What is left to see of a bar that stood by itself."""
        took = f"in {about(self.elapsed)}" if self.elapsed >= 1 else ""
        amount = f"{self.done:,.0f} {self.unit}{'' if self.done == 1 else 's'}" if self.unit else ""
        share = min(1.0, self.done / self.total) if self.total else 1.0
        parts = (" ".join(filter(None, (amount, took))), self._rate(), self.note)
        return Line(self.what, share, ", ".join(filter(None, parts)) or "done")

    @property
    def elapsed(self) -> float:
        """Seconds since the bar was opened."""
        return time.perf_counter() - self._start

    def _rate(self) -> str:
        """How many tokens or images pass in a second."""
        done = self.done - self._skipped
        return f"{done / self.elapsed:,.0f} {self.unit}s/s" if self.kind is not None and self.weight == 1 and done else ""

    def _left(self) -> float | None:
        """Seconds until it is done, at the speed so far."""
        done = self.done - self._skipped
        if not done or self.elapsed < SHOWN_LEFT:
            return None
        return float(self.elapsed / done * max(0, self.total - self.done))


class Drawing:
    """The bars that are open now, outermost first, and where they are drawn."""

    def __init__(self, shown: Screen) -> None:
        """Draw nothing yet.

        Args:
            shown: Where to draw.
        """
        self.screen = shown
        self.estimate = Estimate()
        self.bars: list[Bar] = []
        self._drawn = float("-inf")

    def lines(self) -> list[Line]:
        """The outermost bar, and the innermost one beneath it."""
        inner = [bar for bar in self.bars[1:] if bar.elapsed >= SOON][-1:]
        return [bar.line() for bar in (*self.bars[:1], *inner)]

    def draw(self, *, now: bool = False) -> None:
        """Draw what is open, unless it was drawn just before.

        Args:
            now: Whether to draw in any case.
        """
        moment = time.perf_counter()
        if now or moment - self._drawn >= self.screen.every:
            self._drawn = moment
            self.screen.draw(self.lines())

    @contextmanager
    def beneath(self, bar: Bar) -> Iterator[Bar]:
        """Open a bar inside the `with` block.

        Args:
            bar: The bar.

        Yields:
            The same.
        """
        bar._owner = self
        self.bars.append(bar)
        try:
            self.draw()
            yield bar
        finally:
            self.bars.remove(bar)
            self.close(bar)

    def close(self, bar: Bar) -> None:
        """Let go of a bar; the time of its work is not that of the bars around it.

        Args:
            bar: The bar.
        """
        bar._owner = None
        for outer in self.bars:
            outer._last += bar.elapsed


current: ContextVar[Drawing | None] = ContextVar("current", default=None)
"""What is drawn in this thread now."""


@contextmanager
def track(
    what: str,
    total: int | float,
    *,
    unit: str = "",
    progress: bool = True,
    kind: WorkKind | None = None,
    weight: int | float = 1,
) -> Iterator[Bar]:
    """Show how far something is, inside the `with` block: beneath the bar of the call around it, where there is one.

    Args:
        what: What is done, such as `statistics of code`.
        total: How much there is to do.
        unit: What is counted, in the singular; nothing where the share says it all.
        progress: Whether to show it. Work counts in the call around it in any case.
        kind: What kind of work each update counts as, for the time left of the call around it; none when None.
        weight: Tokens of that work in a unit.

    Yields:
        The bar, whose `update` counts.
    """
    bar, around = Bar(what, total, unit, kind, weight), current.get()
    if around is not None:
        with around.beneath(bar) if progress else _uncounted(around, bar):
            yield bar
        return
    drawing = Drawing(screen(progress=progress))
    token = current.set(drawing)
    ended = False
    try:
        with drawing.beneath(bar):
            yield bar
        ended = True
    finally:
        current.reset(token)
        drawing.screen.end(bar.last_line() if ended else None)


@contextmanager
def _uncounted(around: Drawing, bar: Bar) -> Iterator[Bar]:
    """Count the work of a bar that is not shown."""
    bar._owner = around
    try:
        yield bar
    finally:
        around.close(bar)


def say(text: str, *, progress: bool = True) -> None:
    """Show a line of text above the bars, on standard error or in the output of the notebook.

    Args:
        text: What to say.
        progress: Whether progress is shown.
    """
    around = current.get()
    shown = screen(progress=progress) if around is None else around.screen
    if progress and not isinstance(shown, Nowhere):
        shown.say(text) if around is not None else print(text, file=sys.stderr, flush=True)
