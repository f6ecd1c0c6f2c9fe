"""Where progress is drawn: two lines of a terminal, one output of a notebook cell, or lines of a log."""

import html
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from huggingface_hub.utils import are_progress_bars_disabled
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from hf_untangle.distributed import is_main


@dataclass(frozen=True)
class Line:
    """One bar as it is now."""

    what: str
    share: float
    """How much is done, from 0 to 1."""
    details: str
    """What stands behind the bar."""


@runtime_checkable
class Screen(Protocol):
    """Something that shows bars."""

    every: float
    """Seconds between two drawings, at the least."""

    def draw(self, lines: Sequence[Line]) -> None:
        """Show the outer bar and, where there is one, the inner one."""
        ...

    def say(self, text: str) -> None:
        """Show a line of text that stays."""
        ...

    def begin(self, text: str) -> None:
        """Say that a phase begins, where bars cannot be drawn."""
        ...

    def end(self, line: Line | None) -> None:
        """Leave the last state of the outer bar, or nothing at all, and nothing else."""
        ...


def screen(*, progress: bool) -> Screen:
    """Find out where progress is to be drawn.

    Args:
        progress: Whether it is asked for. Of several processes the main one draws, and none where bars were switched off for
            tqdm (`TQDM_DISABLE`), the Hub (`HF_HUB_DISABLE_PROGRESS_BARS`) or transformers (`disable_progress_bar`).

    Returns:
        A screen.
    """
    switched_off = (
        os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
        or are_progress_bars_disabled()
        or not transformers_logging.is_progress_bar_enabled()
    )
    if not progress or switched_off or not is_main():
        return Nowhere()
    if in_notebook():
        return Notebook()
    return Terminal() if sys.stderr.isatty() else Log()


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


class Nowhere:
    """Shows nothing."""

    every = float("inf")

    def draw(self, lines: Sequence[Line]) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def begin(self, text: str) -> None:
        """Say nothing."""

    def end(self, line: Line | None) -> None:
        """Leave nothing."""


class Log:
    """Lines on standard error, for files and continuous integration: one a phase, and nothing is ever drawn over."""

    every = float("inf")

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw nothing: a log has no bars."""

    def say(self, text: str) -> None:
        """Write a line."""
        print(text, file=sys.stderr, flush=True)

    def begin(self, text: str) -> None:
        """Write a line."""
        self.say(text)

    def end(self, line: Line | None) -> None:
        """Write the last state of the outer bar."""
        if line is not None:
            self.say(f"{line.what}: {line.details}")


LAYOUT = "{desc} {percentage:3.0f}%|{bar:20}| {text}"
"""Of a line of a terminal."""


class _Bar(tqdm):
    """A bar of tqdm that has its own text behind it."""

    monitor_interval = 0
    text = ""

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the format of a bar may name."""
        return dict(super().format_dict) | {"text": self.text}


class Terminal:
    """Two lines of a terminal, the lower of which vanishes."""

    every = 0.1

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._bars: list[_Bar] = []

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw over what was drawn before."""
        while len(self._bars) > len(lines):
            self._bars.pop().close()
        for number, line in enumerate(lines):
            if number == len(self._bars):
                how: dict[str, Any] = {"leave": not number, "dynamic_ncols": True, "bar_format": LAYOUT}
                self._bars.append(_Bar(total=1.0, desc=line.what, file=sys.stderr, **how))
            bar = self._bars[number]
            bar.n, bar.text = line.share, line.details
            bar.set_description_str("  " * number + line.what, refresh=False)
            bar.refresh()

    def say(self, text: str) -> None:
        """Write a line above the bars."""
        _Bar.write(text, file=sys.stderr)

    def begin(self, text: str) -> None:
        """Say nothing: the bar says it."""

    def end(self, line: Line | None) -> None:
        """Leave the last state of the outer bar."""
        if line is not None:
            self.draw((line,))
        while self._bars:
            bar = self._bars.pop()
            bar.leave = bar.leave and line is not None
            bar.close()


class Notebook:
    """One output of a notebook cell, which is drawn over: no widgets, so a saved notebook shows it too."""

    every = 0.25

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._handle: Any = None
        self._said: list[str] = []
        self._lines: Sequence[Line] = ()

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw over what was drawn before."""
        from IPython.display import display

        self._lines = lines
        content = {"text/html": self._html(), "text/plain": self._text()}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def say(self, text: str) -> None:
        """Write a line above the bars."""
        self._said.append(text)
        self.draw(self._lines)

    def begin(self, text: str) -> None:
        """Say nothing: the bar says it."""

    def end(self, line: Line | None) -> None:
        """Leave the last state of the outer bar."""
        if line is not None or self._handle is not None:
            self.draw(() if line is None else (line,))

    def _html(self) -> str:
        """The bars as HTML, in the colors of the notebook."""
        said = "".join(f'<div style="opacity: 0.7;">{html.escape(text)}</div>' for text in self._said)
        bars = (
            f'<div style="margin-left: {2 * number}em;">'
            f'<progress max="1" value="{line.share:.4f}" style="width: 12em;"></progress>'
            f" {html.escape(f'{line.what} {line.share:.0%}, {line.details}')}</div>"
            for number, line in enumerate(self._lines)
        )
        return said + "".join(bars)

    def _text(self) -> str:
        """The same without markup."""
        return "\n".join([*self._said, *(f"{line.what} {line.share:.0%}, {line.details}" for line in self._lines)])
