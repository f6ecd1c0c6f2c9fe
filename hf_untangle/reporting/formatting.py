"""How numbers are written, the same in the terminal, on the page and on the card."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev


def percent(share: float) -> str:
    """Write a share with one decimal.

    Args:
        share: From 0 to 1, as a rule.

    Returns:
        `3.1%` for 0.0312, and `n/a` for NaN.
    """
    return "n/a" if math.isnan(share) else f"{share:z.1%}"


def between(low: float, high: float) -> str:
    """Write an interval of shares.

    Args:
        low: Its lower end.
        high: Its upper end.

    Returns:
        `1.9% to 4.3%`.
    """
    return f"{percent(low)} to {percent(high)}"


def points(difference: float) -> str:
    """Write a difference of two shares in percentage points.

    Args:
        difference: From -1 to 1, as a rule.

    Returns:
        `63.5 points` for 0.6349, and `n/a` for NaN.
    """
    return "n/a" if math.isnan(difference) else f"{100 * difference:z.1f} points"


def drop(share: float) -> str:
    """Write a relative drop for a table.

    Args:
        share: The drop; NaN where there was nothing to lose.

    Returns:
        `71.0%`, or `rose 1.2%` where the drop is negative.
    """
    return f"rose {percent(-share)}" if _rose(share) else percent(share)


def fell(share: float) -> str:
    """Write a relative drop for a sentence.

    Args:
        share: The drop; NaN where there was nothing to lose.

    Returns:
        `fell by 71.0%`, or `rose by 1.2%` where the drop is negative.
    """
    if math.isnan(share):
        return "has no relative drop"
    return f"rose by {percent(-share)}" if _rose(share) else f"fell by {percent(share)}"


def fell_both(first: float, second: float) -> tuple[str, str]:
    """Write two relative drops for one sentence, without the same verb twice.

    Args:
        first: A drop.
        second: Another, which is named after the first.

    Returns:
        `fell by 71.0%` and `by 3.1%`, or `fell by 71.0%` and `rose by 1.2%`.
    """
    one, other = fell(first), fell(second)
    verb, by, _ = one.partition("by")
    return one, other.removeprefix(verb) if by else other


def perplexity(value: float) -> str:
    """Write a perplexity with as many digits as mean something.

    Args:
        value: At least 1; may be infinite.

    Returns:
        `48.0`, `1,235`, `2.1e+08` or `inf`.
    """
    if not math.isfinite(value) or value >= 1e6:
        return f"{value:.1e}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def amount(number: int) -> str:
    """Write a count so that it can be read at a glance.

    Args:
        number: At least 0.

    Returns:
        `12,288` below a million, and `134.5 million` from there on.
    """
    for word, size in (("trillion", 1e12), ("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {word}"
    return f"{number:,}"


def duration(seconds: float) -> str:
    """Write a time in the units that matter.

    Args:
        seconds: At least 0.

    Returns:
        `48 s`, `4 min 12 s` or `2 h 5 min`.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def mean(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Write the mean of some values, with their spread.

    Args:
        values: At least one.
        write: How one value is written.

    Returns:
        `46.1% ± 0.5%`, with the sample standard deviation; the mean alone of a single value, or where one is not finite.
    """
    middle = write(fmean(values))
    if len(values) == 1 or not all(map(math.isfinite, values)):
        return middle
    # A line may break before the sign, never after it.
    return f"{middle} ±\u00a0{write(stdev(values))}"


def _rose(share: float) -> bool:
    """Whether a drop is negative even when it is written with one decimal."""
    return round(share, 3) < 0


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> list[str]:
    """Write a table in Markdown, whose last columns are numbers.

    Args:
        titles: The heads of the columns.
        rows: A text per column.
        words: How many columns are words, which stand to the left.

    Returns:
        Lines.
    """
    rule = "|---" * words + "|--:" * (len(titles) - words) + "|"
    head, *body = (f"| {' | '.join(row)} |" for row in (titles, *rows))
    return [head, rule, *body]


def benchmark_markdown(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str]) -> str:
    """Write a benchmark in Markdown: its table, and what was measured with what.

    Args:
        title: What was compared.
        headings: One a column.
        rows: A text per column.
        notes: Sentences below the table.

    Returns:
        Markdown.
    """
    return "\n".join([f"# {title}", "", *markdown_table(headings, rows), "", *(f"- {note}" for note in notes), ""])
