"""What an experiment is made on: items to train on, and sets to test on, in and out of distribution."""

from dataclasses import dataclass
from typing import Any

from hf_untangle.papers.contrast.encoders import Items


@dataclass(frozen=True, eq=False)
class ItemSets:
    """Items to train on, and held-out sets."""

    train: Items
    """Images or texts."""
    sets: dict[str, Items]
    """Sets to test on by name; the first is of the same distribution as `train`, the others are shifts."""
    shape: dict[str, Any]
    """What a `ContrastConfig` must say to fit the items."""
    source: str
    """Where the items to train on come from."""

    @property
    def in_distribution(self) -> str:
        """The name of the set that is no shift."""
        return next(iter(self.sets))
