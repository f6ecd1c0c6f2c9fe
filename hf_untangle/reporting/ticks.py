"""Ticks of logarithmic axes: a few round numbers, whether the axis spans a hundredth of a decade or thirty of them."""

import math
from collections.abc import Iterator, Sequence
from itertools import product

from matplotlib.axis import Axis
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

FEWEST, MOST = 3, 5
"""Ticks of an axis."""
DIGITS: tuple[tuple[int, ...], ...] = ((1,), (1, 3), (1, 2, 5))
"""Leading digits of the ticks in a decade, the roundest first."""
DECADES = (2, 3, 5, 10, 20, 50, 100, 200)
"""Of how many powers of ten one is a tick."""
PRECISION = 6
"""Digits of a tick."""
PLAIN = range(-4, 5)
"""Powers of ten that are written out; others as powers."""


def log_ticks(low: float, high: float) -> list[float]:
    """Choose the ticks of a logarithmic axis.

    Args:
        low: Where the axis begins, above 0.
        high: Where it ends, above `low`.

    Returns:
        `FEWEST` to `MOST` round numbers between both: powers of ten, every so many of them where there are more than `MOST`,
        or with 2, 3 and 5 times these; on less than a decade or so, numbers at equal distances.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in DIGITS:
        found = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in digits]
        inside = [tick for tick in found if low <= tick <= high]
        if digits == (1,) and len(inside) > MOST:
            every = next(step for step in DECADES if step * MOST >= len(inside))
            return [tick for tick in inside if round(math.log10(tick)) % every == 0]
        if FEWEST <= len(inside) <= MOST:
            return inside
    return next(ticks for step in _round_steps((high - low) / MOST) if len(ticks := _multiples(step, low, high)) <= MOST)


def _round_steps(least: float) -> Iterator[float]:
    """Rising round numbers, the first of which is about as large as a number."""
    power = math.floor(math.log10(least))
    for more, digit in product(range(3), (1, 2, 2.5, 5)):
        yield float(f"{digit}e{power + more}")


def _multiples(step: float, low: float, high: float) -> list[float]:
    """All multiples of a number between two others."""
    found = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [rounded for number in found if low <= (rounded := float(f"{number * step:.{PRECISION}g}")) <= high]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Write ticks as short as they can be told apart: 0.05, 20, 30,000 or a power of ten.

    Args:
        ticks: Positive numbers, rising.

    Returns:
        A label for each, in matplotlib's markup.
    """
    powers = [math.log10(tick) for tick in ticks]
    if all(power == round(power) for power in powers) and not (PLAIN[0] <= powers[0] and powers[-1] <= PLAIN[-1]):
        return [f"$10^{{{round(power)}}}$" for power in powers]
    if PLAIN[0] <= powers[0] and powers[-1] <= PLAIN[-1] + 1:
        return [f"{tick:,.{PRECISION}g}" for tick in ticks]
    return [_scientific(tick) for tick in ticks]


def _scientific(tick: float) -> str:
    """A number times a power of ten."""
    digit, _, power = f"{tick:e}".partition("e")
    return f"${float(digit):g}\\times10^{{{int(power)}}}$"


def few_ticks(*axes: Axis) -> None:
    """Give logarithmic axes a few ticks with short labels, and no ticks between; call it when the limits are final.

    Args:
        *axes: Such as `axes.xaxis`.
    """
    for axis in axes:
        ticks = log_ticks(*axis.get_view_interval())
        if len(ticks) == MOST and "times" in tick_labels(ticks)[0]:
            ticks = ticks[::2]  # Longer labels need more room.
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FixedFormatter(tick_labels(ticks)))
        axis.set_minor_locator(NullLocator())
