"""Settings of a density sweep: everything that the published protocol leaves open."""

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from hf_untangle.config import Config, known
from hf_untangle.density.tolerance import TOLERANCES

GRID = tuple(tick / 20 for tick in range(1, 21))
"""Shares from 5% to 100%."""


class SweepConfig(Config):
    """The settings of a sweep. Shares are from 0 to 1."""

    unit: Literal["weights", "neurons"] = Field(
        default="weights", description="What is removed: single weights, or whole neurons of a decoder."
    )
    score: Literal["magnitude", "wanda", "random"] = Field(
        default="magnitude", description="What is ranked, lowest first; `wanda` is weight times the size of what it reads."
    )
    scope: Literal["global", "layer"] = Field(
        default="global", description="What competes: everything (neurons of one kind), or what is in one layer."
    )
    tolerance: str = Field(default="points", description="How far the metric may fall, a key of `TOLERANCES`.")
    allowed: float | None = Field(
        default=None, description="How much may be lost; by default 0.05 for accuracies, a factor of 1.05 for losses."
    )
    grid: tuple[float, ...] = Field(default=GRID, description="Shares that are tried first, increasing.")
    refine: float = Field(
        default=0.01, ge=0, lt=1, description="Distance of the shares that are tried around the crossings; 0 for none."
    )
    parts: tuple[Literal["weights", "biases", "norms", "embeddings"], ...] = Field(
        default=("weights",), min_length=1, description="Which parameters are pruned, for single weights."
    )
    skip: tuple[str, ...] = Field(default=(), description="Patterns of parameter names that stay, such as `lm_head.*`.")
    seed: int = Field(default=0, description="For random scores.")

    @field_validator("tolerance")
    @classmethod
    def _known_tolerance(cls, value: str) -> str:
        """Refuse a tolerance that does not exist."""
        return known(value, TOLERANCES)

    @field_validator("grid")
    @classmethod
    def _increasing(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        """Refuse a grid that does not grow."""
        if not value or not all(low < high for low, high in zip((0.0, *value), value, strict=False)) or value[-1] > 1:
            raise ValueError(f"must be shares above 0 and at most 1, increasing, got {value}")
        return value

    @model_validator(mode="after")
    def _readable_allowance(self) -> "SweepConfig":
        """Refuse an allowance that means nothing for the tolerance."""
        lowest = 0 if TOLERANCES[self.tolerance].metric == "accuracy" else 1
        if self.allowed is not None and not lowest < self.allowed < math.inf:
            raise ValueError(f"allowed must be above {lowest} for the tolerance `{self.tolerance}`, got {self.allowed}")
        return self

    @property
    def allowance(self) -> float:
        """How much may be lost, the tolerance's own amount where none was given."""
        return TOLERANCES[self.tolerance].allowed if self.allowed is None else self.allowed
