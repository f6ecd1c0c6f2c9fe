"""What a compression run writes down, as plain values."""

from typing import Any

from hf_untangle.configs.prune import PruneConfig
from hf_untangle.evaluation.footprint import Footprint
from hf_untangle.evaluation.next_token import NextTokenMetrics
from hf_untangle.records.base import Frozen
from hf_untangle.records.unlearning import GroupCount


class PruneRecord(Frozen):
    """Everything about a finished compression."""

    model: str
    """Name or path of the original model."""
    revision: str | None
    """Its Hub commit, where there is one."""
    dtype: str
    parameters_removed: int
    """Weights and biases that belonged to removed neurons."""
    groups: tuple[GroupCount, ...]
    config: PruneConfig
    corpora: dict[str, dict[str, Any]]
    """What was read: `train`, which neurons were chosen by, and `test`, which metrics were measured on."""
    before: NextTokenMetrics
    """The original model on the test part."""
    after: NextTokenMetrics
    """The pruned model on the same."""
    random: tuple[NextTokenMetrics, ...]
    """Random masks that remove as many neurons of every group."""
    magnitude: NextTokenMetrics
    """The smallest weights in the place of the least important neurons, as many of every group."""
    footprint_before: Footprint
    footprint_after: Footprint
    versions: dict[str, str]
    """Versions of Python and of the libraries that matter."""
    device: str
    """What it ran on."""
    date: str
    """Day on which it ran, as YYYY-MM-DD."""
    seconds: float
