"""Types of the keywords that override single settings; written by scripts/write_settings.py."""

from collections.abc import Sequence
from typing import TypedDict

from hf_untangle.methods.registry import Optimizer, Retain, Writes


class MethodSettings(TypedDict, total=False):
    """Single fields of `MethodConfig`, which says what each is."""

    retain_objective: Retain | None
    writes: Writes | None
    modules: Sequence[str]
    neurons: float
    layer: int | None
    alternatives: Sequence[str] | None
    beta: float | None
    delta: float | None
    sequence_sum: bool
    gamma: float | None
    alpha: float | None
    optimizer: Optimizer | None
    learning_rate: float | None
    search: Sequence[float]
    trial_steps: int
    steps: int
    step_rows: int
    evaluate_every: int
    max_grad_norm: float
    rank: int
    components: int
