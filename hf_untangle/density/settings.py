"""Everything that the published protocol leaves open, with the defaults taken here."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from hf_untangle.density.tolerance import TOLERANCES
from hf_untangle.errors import ConfigError

CHOICES = {
    "unit": ("weights", "neurons"),
    "score": ("magnitude", "wanda", "random"),
    "scope": ("global", "layer"),
    "tolerance": tuple(TOLERANCES),
}
PARTS = ("weights", "biases", "norms", "embeddings")
GRID = tuple(tick / 20 for tick in range(1, 21))


@dataclass(frozen=True)
class SweepSettings:
    """The settings of a sweep. Shares are from 0 to 1."""

    unit: str = "weights"
    """What goes: single `weights`, or whole `neurons` of a decoder."""
    score: str = "magnitude"
    """What is ranked, lowest first: `magnitude`, `wanda` (weight times the size of what it reads), or `random`."""
    scope: str = "global"
    """What competes: everything (`global`; neurons of one kind), or what is in one `layer`."""
    tolerance: str = "points"
    """A key of `TOLERANCES`."""
    allowed: float | None = None
    """How much may be lost; the tolerance's own when None: 0.05 for accuracies, a factor of 1.05 for losses."""
    grid: tuple[float, ...] = GRID
    """Shares that are tried first, increasing."""
    refine: float = 0.01
    """Distance of the shares that are tried around the crossings; 0 for none."""
    parts: tuple[str, ...] = ("weights",)
    """Which parameters go, for single weights: `weights` (matrices and kernels), `biases`, `norms`, `embeddings`."""
    skip: tuple[str, ...] = ()
    """Patterns of parameter names that stay, such as `lm_head.*`."""
    seed: int = 0
    """For random scores."""

    def __post_init__(self) -> None:
        """Refuse what is no choice, and shares that are none."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}, but `{getattr(self, name)}` came.")
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ConfigError(f"parts must be some of {', '.join(PARTS)}, but {self.parts} came.")
        increasing = all(low < high for low, high in zip((0.0, *self.grid), self.grid, strict=False))
        if not self.grid or not increasing or self.grid[-1] > 1:
            raise ConfigError(f"grid must be shares above 0 and at most 1, increasing, but {self.grid} came.")
        if not 0 <= self.refine < 1:
            raise ConfigError(f"refine must be a share from 0 to below 1, but {self.refine} came.")
        lowest = 0 if TOLERANCES[self.tolerance].metric == "accuracy" else 1
        if self.allowed is not None and not lowest < self.allowed < math.inf:
            raise ConfigError(f"allowed must be above {lowest} for the tolerance `{self.tolerance}`, but {self.allowed} came.")

    def changed(self, **changes: Any) -> "SweepSettings":
        """The same settings, some of them changed.

        Args:
            **changes: Fields by name.

        Returns:
            A checked copy.

        Raises:
            ConfigError: A name is unknown, or a value out of its range.
        """
        names = [field.name for field in fields(self)]
        if unknown := sorted(changes.keys() - set(names)):
            raise ConfigError(f"A sweep has no setting `{unknown[0]}`; its settings are {', '.join(names)}.")
        return replace(self, **{name: _as_declared(value) for name, value in changes.items()})

    @property
    def allowance(self) -> float:
        """How much may be lost, the tolerance's own amount where none was given."""
        return TOLERANCES[self.tolerance].allowed if self.allowed is None else self.allowed


def _as_declared(value: Any) -> Any:
    """Take a list, which is what YAML has, for a tuple."""
    return tuple(value) if isinstance(value, list) else value
