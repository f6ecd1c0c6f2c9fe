"""Types of the keywords that override single settings; written by scripts/write_settings.py."""

from collections.abc import Sequence
from typing import Literal, TypedDict


class SweepSettings(TypedDict, total=False):
    """Single fields of `SweepConfig`, which says what each is."""

    unit: Literal["weights", "neurons"]
    score: Literal["magnitude", "wanda", "random"]
    scope: Literal["global", "layer"]
    tolerance: str
    allowed: float | None
    grid: Sequence[float]
    refine: float
    parts: Sequence[Literal["weights", "biases", "norms", "embeddings"]]
    skip: Sequence[str]
    seed: int
