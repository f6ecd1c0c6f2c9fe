"""What a compression run writes down, as plain values."""

from typing import Any, Literal

from hf_untangle.configs.prune import PruneConfig
from hf_untangle.evaluation.footprint import Footprint
from hf_untangle.evaluation.next_token import NextTokenMetrics
from hf_untangle.records.base import Frozen, Metrics, RunRecord, TrainingRecord
from hf_untangle.records.methods import RefitRecord
from hf_untangle.records.unlearning import GroupCount


class PruneRepairRecord(TrainingRecord):
    """A repair of a compressed model."""

    before: NextTokenMetrics
    """The pruned model on the test part."""
    after: NextTokenMetrics
    """The same once it was repaired."""


class CorpusMetricsRecord(Frozen):
    """Metrics of the test part that were asked for after the run; their names are those of `hf_untangle.evaluate`."""

    settings: dict[str, Any]
    """How much was read, and how."""
    values: dict[str, int | float]
    """The model as it is."""
    before: dict[str, int | float] | None = None
    """The original model, where it was at hand."""


class UnitsRecord(Frozen):
    """Whole units that went: heads, blocks, layers or experts."""

    kind: str
    total: int
    """How many there were."""
    judged_by: str
    removed: tuple[str, ...]
    """Their names, in the order in which they were chosen."""
    scores: dict[str, float]
    """What each unit was judged or shortlisted by; the lowest went first."""
    losses: dict[str, float]
    """Of those that were chosen by loss: the loss of the model without each and those before it, in nats."""

    def in_words(self) -> str:
        """Say how many went, and which."""
        return f"{len(self.removed)} of {self.total} {self.kind}: {', '.join(self.removed)}"


class LayoutRecord(Frozen):
    """One way to spend the budget."""

    layers: int
    """Whole layers that go."""
    heads: int
    """Key-value groups that go of every other layer."""
    neurons: int
    """FFN neurons that go of every other layer."""
    parameters: int
    """Of the smaller model, by the average size of what goes."""
    speedup: float | None
    """How many times as fast a forward pass was expected to be, where a speed was asked for."""
    loss: float
    """On the tokens that layouts were compared on, in nats."""

    def in_words(self) -> str:
        """Say how much of each kind goes."""
        return f"{self.layers} layers, and {self.heads} key-value groups and {self.neurons:,} FFN neurons of every other layer"


class PruneRecord(RunRecord):
    """Everything about a finished compression."""

    run: Literal["prune"] = "prune"

    parameters_removed: int
    """Weights and biases that belonged to removed neurons."""
    groups: tuple[GroupCount, ...]
    config: PruneConfig
    units: UnitsRecord | None = None
    """Which whole units went; None where neurons went one by one, or several kinds at once."""
    layouts: tuple[LayoutRecord, ...] = ()
    """The ways to spend the budget that were compared, the chosen one first."""
    corpora: dict[str, dict[str, Any]]
    """What was read: `train`, which neurons were chosen by, and `test`, which metrics were measured on."""
    before: Metrics
    """The original model on the test part."""
    after: Metrics
    """The pruned model on the same."""
    refit: RefitRecord | None = None
    """How what is kept made up for what was removed; None where it did not."""
    without_refit: Metrics | None = None
    """The pruned model without its refit, as all other choices are measured."""
    random: tuple[Metrics, ...]
    """Random masks that remove as many neurons of every group."""
    magnitude: Metrics
    """The smallest weights instead of the least important neurons, as many of every group."""
    footprint_before: Footprint
    footprint_after: Footprint
    repairs: tuple[PruneRepairRecord, ...] = ()
    """What was done since to get the corpus back, in order."""
    metrics: tuple[CorpusMetricsRecord, ...] = ()
    """What else was measured of the model as it is now, in order."""

    @property
    def what_went(self) -> str:
        """What went, in words; empty where neurons went one by one."""
        if self.layouts:
            return self.layouts[0].in_words()
        return "" if self.units is None else self.units.in_words()

    @property
    def final(self) -> NextTokenMetrics:
        """The model as it is now on the test part: pruned, and repaired where it was."""
        return self.repairs[-1].after if self.repairs else self.after
