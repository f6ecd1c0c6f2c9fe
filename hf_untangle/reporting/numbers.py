"""How numbers are written, the same in the terminal, on the page and on the card."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev


def percent(share: float) -> str:
    """Write a share with one decimal: 0.0312 is `3.1%`, and what is not a number is `n/a`.

    Args:
        share: From 0 to 1, as a rule.
    """
    return "n/a" if math.isnan(share) else f"{share:z.1%}"


def points(difference: float) -> str:
    """Write a difference of two shares in percentage points: 0.6349 is `63.5 points`.

    Args:
        difference: From -1 to 1, as a rule.
    """
    return "n/a" if math.isnan(difference) else f"{100 * difference:z.1f} points"


def drop(share: float) -> str:
    """Write a relative drop for a table: `71.0%`, or `rose 1.2%` where it is negative.

    Args:
        share: The drop; NaN where there was nothing to lose.
    """
    return f"rose {percent(-share)}" if _rose(share) else percent(share)


def fell(share: float) -> str:
    """Write a relative drop for a sentence: `fell by 71.0%`, `rose by 1.2%`.

    Args:
        share: The drop; NaN where there was nothing to lose.
    """
    if math.isnan(share):
        return "has no relative drop"
    return f"rose by {percent(-share)}" if _rose(share) else f"fell by {percent(share)}"


def fell_both(first: float, second: float) -> tuple[str, str]:
    """Write two relative drops for one sentence, without the verb twice: `fell by 71.0%` and `by 3.1%`.

    Args:
        first: A drop.
        second: Another, which is named after the first.
    """
    one, other = fell(first), fell(second)
    verb, by, _ = one.partition("by")
    return one, other.removeprefix(verb) if by else other


def perplexity(value: float) -> str:
    """Write a perplexity with three significant digits or whole: `48.0`, `1,235`, `2.1e+08`, `inf`.

    Args:
        value: At least 1; may be infinite.
    """
    if not math.isfinite(value) or value >= 1e6:
        return f"{value:.1e}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def amount(number: float) -> str:
    """Write a large number in words: `134.5 million`, and below a million with separators: `12,288`.

    Args:
        number: A count.
    """
    for word, size in (("trillion", 1e12), ("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {word}"
    return f"{number:,}"


def duration(seconds: float) -> str:
    """Write a time in the two units that matter: `48 s`, `4 min 12 s`, `2 h 5 min`.

    Args:
        seconds: At least 0.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def mean(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Write the mean of some values, with their sample standard deviation where there are several finite ones.

    Args:
        values: At least one.
        write: How one value is written.
    """
    middle = write(fmean(values))
    if len(values) == 1 or not all(map(math.isfinite, values)):
        return middle
    return f"{middle} ± {write(stdev(values))}"


def _rose(share: float) -> bool:
    """Whether a drop is negative even when it is written with one decimal."""
    return round(share, 3) < 0
