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


class PruneRecord(RunRecord):
    """Everything about a finished compression."""

    run: Literal["prune"] = "prune"

    parameters_removed: int
    """Weights and biases that belonged to removed neurons."""
    groups: tuple[GroupCount, ...]
    config: PruneConfig
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
    def final(self) -> NextTokenMetrics:
        """The model as it is now on the test part: pruned, and repaired where it was."""
        return self.repairs[-1].after if self.repairs else self.after
