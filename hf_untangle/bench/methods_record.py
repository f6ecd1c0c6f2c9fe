"""Records of the benchmark of methods: one cell per method and seed."""

from itertools import pairwise
from typing import Any

from hf_untangle.arguments import checked_calls
from hf_untangle.evaluation.next_token import relative_drop
from hf_untangle.records.attacks import AttackRecord
from hf_untangle.records.base import Count, Frozen, Metrics, Seconds


class Measured(Frozen):
    """One corpus before and after, on held-out text."""

    before: Metrics
    after: Metrics
    disruption: float | None
    """Mean KL(original || model) in nats per token; None for the forget corpus, where it is meant to be large."""

    @property
    def drop(self) -> float:
        """Relative drop of top-1 accuracy."""
        return relative_drop(self.before.top1, self.after.top1)


class Point(Frozen):
    """A judged step of a run, on validation parts."""

    disruption: float
    """Mean KL(original || model) on retain, in nats per token."""
    forget_drop: float
    retain_drop: float


@checked_calls
class Cell(Frozen):
    """One method with one seed."""

    method: str
    """As in the settings: `prune+npo`, `npo@neurons`."""
    seed: int
    forget: Measured | None = None
    """None where no step stayed inside the budgets."""
    retain: Measured | None = None
    also: dict[str, Measured] = {}
    """Corpora that no method was told of, by name."""
    random_drop: float | None = None
    """Mean relative drop of forget top-1 under random masks, or random updates, of the same size, on what the run tested."""
    path: tuple[Point, ...] = ()
    """The steps of the run that was kept, from the original on."""
    learning_rates: tuple[float, ...] = ()
    """Of every method that has one."""
    trials: Count = 0
    """Runs or short trials that the kept run was chosen from."""
    attacks: AttackRecord | None = None
    seconds: Seconds
    """Of unlearning alone, trials included."""
    peak_bytes: int | None = None
    """Largest memory of the process, or of the device, while it unlearned; None where it is not known."""
    note: str = ""
    """Why nothing was measured."""

    def disruption_at(self, level: float) -> float | None:
        """Read the disruption off the path where this much of the forget corpus is gone.

        Args:
            level: Relative drop of forget top-1.

        Returns:
            Interpolated between the steps before and after the first that reaches it; None where none does.
        """
        for one, next_ in pairwise((Point(disruption=0, forget_drop=0, retain_drop=0), *self.path)):
            if next_.forget_drop >= level:
                share = (level - one.forget_drop) / (next_.forget_drop - one.forget_drop)
                return one.disruption + share * (next_.disruption - one.disruption)
        return None


class MethodsBenchRecord(Frozen):
    """All cells of a benchmark."""

    model: str
    revision: str | None
    dtype: str
    settings: dict[str, Any]
    corpora: dict[str, dict[str, Any]]
    """The held-out blocks of every corpus."""
    cells: tuple[Cell, ...]
    versions: dict[str, str]
    device: str
    date: str
    """Day on which it ended, as YYYY-MM-DD."""
