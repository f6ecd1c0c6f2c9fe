"""How the core of a network grows with the network: one line through many sizes, and which claims it bears out."""

import math
import statistics
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from typing import Any

from hf_untangle.arguments import checked_calls
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.display import fields_repr
from hf_untangle.papers.scaling.families import Width

STABLE = 0.10
"""A share is called stable when its means lie no further apart."""
WIDE_END = 3
"""How many of the widest widths that is asked of."""


@checked_calls
@dataclass(frozen=True)
class Run:
    """One network of a family."""

    width: Width
    seed: int
    parameters: int
    """Prunable parameters."""
    base: float
    """The metric of the whole network."""
    share: float
    """Prunable share, at the first crossing."""
    last: float
    """The share of the last crossing."""
    unprunable: int
    """Parameters of the core."""
    random: float | None
    """Prunable share in random order; None when it was not asked for."""


@dataclass(frozen=True)
class WidthSummary:
    """All seeds of one width."""

    width: Width
    parameters: int
    """Mean over seeds, as all others here; they differ only if the family says so."""
    base: float
    share: float
    share_spread: float
    """Standard deviation over seeds; 0 for one."""
    unprunable: float
    unprunable_spread: float
    random: float | None


@dataclass(frozen=True)
class Fit:
    """log(unprunable) = slope log(parameters) + intercept, by least squares over all runs."""

    slope: float
    """1 when the share does not depend on the size; below 1 when larger networks are sparser."""
    intercept: float
    slope_error: float
    """Standard error of the slope; infinite for fewer than three runs."""

    def describe(self) -> str:
        """The slope with its error."""
        return f"slope {self.slope:.2f} ± {self.slope_error:.2f}"


@dataclass(frozen=True)
class Claim:
    """One claim of the published work, and whether it holds here."""

    text: str
    holds: bool
    evidence: str


@checked_calls
@dataclass(frozen=True)
class ScalingResult:
    """The density of a family across its widths."""

    family: str
    config: SweepConfig
    runs: tuple[Run, ...]
    """By increasing width, then by seed."""
    seconds: float
    __repr__ = fields_repr

    @property
    def widths(self) -> tuple[WidthSummary, ...]:
        """Means and spread over seeds, by width."""
        return tuple(_summary(list(runs)) for _, runs in groupby(self.runs, key=lambda run: run.width))

    @property
    def fit(self) -> Fit | None:
        """The line through all runs that have a core, on logarithmic axes; None for one size, or for two runs alone."""
        points = [(math.log(run.parameters), math.log(run.unprunable)) for run in self.runs if run.unprunable]
        return fit_line(points) if len(points) > 2 and len({size for size, _ in points}) > 1 else None

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What the published work claims, tried on these runs; nothing of one size, or where some width has no core."""
        widths = self.widths
        if len({width.parameters for width in widths}) < 2 or not all(width.unprunable for width in widths):
            return ()
        cores = [width.unprunable for width in widths]
        shares = [width.share for width in widths]
        wide, least = shares[-WIDE_END:], min(shares)
        apart = max(wide) - min(wide)
        return (
            Claim(
                "the absolute core grows with every widening",
                all(low < high for low, high in pairwise(cores)),
                f"{cores[0]:,.0f} to {cores[-1]:,.0f} parameters",
            ),
            Claim(
                f"the prunable share is stable over the widest {len(wide)} widths",
                apart <= STABLE,
                f"{100 * apart:.1f} points apart (at most {100 * STABLE:.0f})",
            ),
            Claim(
                "the prunable share is invariant over all widths",
                max(shares) - least <= STABLE,
                f"{100 * least:.0f}% to {100 * max(shares):.0f}%",
            ),
        )

    def record(self) -> dict[str, Any]:
        """Everything, with summaries, fit and claims, as plain values."""
        parts = {"widths": [asdict(width) for width in self.widths], "claims": [asdict(claim) for claim in self.claims]}
        return asdict(self) | {"config": self.config.model_dump()} | parts | {"fit": asdict(self.fit) if self.fit else None}


def fit_line(points: list[tuple[float, float]]) -> Fit:
    """Fit a line by least squares.

    Args:
        points: At least two, not all at one place.

    Returns:
        The line, with the standard error of its slope: sqrt(sum of squared residuals / (n - 2) / sum of (x - mean x)^2).
    """
    xs, ys = zip(*points, strict=True)
    slope, intercept = statistics.linear_regression(xs, ys)
    residuals = sum((y - slope * x - intercept) ** 2 for x, y in points)
    spread = sum((x - statistics.fmean(xs)) ** 2 for x in xs)
    error = math.sqrt(residuals / (len(points) - 2) / spread) if len(points) > 2 else math.inf
    return Fit(slope, intercept, error)


def _summary(runs: list[Run]) -> WidthSummary:
    """Means and standard deviations over the seeds of one width."""

    def mean(name: str) -> float:
        return statistics.fmean(getattr(run, name) for run in runs)

    def spread(name: str) -> float:
        return statistics.stdev(getattr(run, name) for run in runs) if len(runs) > 1 else 0.0

    return WidthSummary(
        width=runs[0].width,
        parameters=round(mean("parameters")),
        base=mean("base"),
        share=mean("share"),
        share_spread=spread("share"),
        unprunable=mean("unprunable"),
        unprunable_spread=spread("unprunable"),
        random=None if runs[0].random is None else mean("random"),
    )
