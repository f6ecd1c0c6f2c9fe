"""What a sweep found."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from hf_untangle.arguments import checked_calls
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.density.tolerance import TOLERANCES
from hf_untangle.display import notebook_html, rows_table, short_repr


@checked_calls
@dataclass(frozen=True)
class CurvePoint:
    """The network without one share of its units."""

    share: float
    """The share that was taken away, from 0 to 1."""
    value: float
    """The metric: an accuracy, or a mean loss in nats. NaN where the network gave no number."""
    parameters: int
    """How many parameters went."""


@checked_calls
@dataclass(frozen=True)
class TensorShare:
    """One tensor, or one neuron group, at the first crossing."""

    name: str
    size: int
    """How many weights or neurons it has."""
    removed: int
    """How many of them went."""

    @property
    def share(self) -> float:
        """The share of it that went."""
        return self.removed / self.size


@checked_calls
@dataclass(frozen=True)
class DensityResult:
    """How much of a network can go before its metric leaves the limit, one shot, without retraining.

    What is left at the first crossing is the core of the network, and its parameters are the unprunable ones.
    """

    config: SweepConfig
    base: float
    """The metric of the whole network."""
    limit: float
    """The worst value of the metric that still counts."""
    first: float
    """The largest tried share before the first one that leaves the limit: the prunable share."""
    last: float
    """The largest tried share that is inside the limit; more than `first` where the curve comes back."""
    curve: tuple[CurvePoint, ...]
    """Everything that was tried, by increasing share, from the whole network on."""
    tensors: tuple[TensorShare, ...]
    """Where the units went at the first crossing."""
    parameters: int
    """How many prunable parameters there are. For neurons: how many belong to them."""
    unprunable: int
    """How many of them are left at the first crossing: the size of the core."""
    falls: bool
    """Whether the metric left the limit at all. If not, `first` is the last share of the grid, 100% unless it ends before."""
    skipped: dict[str, str]
    """Parameters that were asked for and stayed whole, with the reason."""
    resolution: float | None
    """The smallest step in which the accuracy can move; None for a loss, or where the number of examples is unknown."""
    seconds: float
    """How long the sweep took."""
    __repr__ = short_repr
    _repr_html_ = notebook_html

    @property
    def density(self) -> float:
        """The share that cannot go: 1 - first."""
        return 1 - self.first

    def describe(self) -> str:
        """Say in one line what was found."""
        config = self.config
        rule = TOLERANCES[config.tolerance].rule.format(config.allowance)
        core = f"{self.unprunable:,} of {self.parameters:,} parameters are the core"
        if not self.falls:
            return f"The metric never left its limit ({rule}): {self.first:.0%} of all {config.unit} can go; {core}."
        return f"{self.first:.0%} of all {config.unit} can go by {config.score} ({rule}); {core}."

    def table(self) -> Table:
        """Lay out everything that was tried."""
        rows = ((f"{point.share:.1%}", f"{point.value:.4g}", f"{point.parameters:,}") for point in self.curve)
        return rows_table(("share", "metric", "parameters gone"), rows, names=0)

    def record(self) -> dict[str, Any]:
        """Everything, the density included, as plain values."""
        return asdict(self) | {"config": self.config.model_dump(), "density": self.density}
