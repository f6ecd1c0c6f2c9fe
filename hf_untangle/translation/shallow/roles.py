"""What each weight of a three-layer network is for."""

from dataclasses import dataclass
from typing import Literal

RoleName = Literal["carry", "boundary", "local model", "membership", "assembly"]

MEANINGS: dict[RoleName, str] = {
    "carry": "hands the input on, its positive and its negative part",
    "boundary": "looks at one neuron's boundary from both sides",
    "local model": "computes what the network is on one linear region",
    "membership": "silences a region where one of its tests does not hold",
    "assembly": "adds the regions up",
}
"""Every role, in words."""


@dataclass(frozen=True)
class Role:
    """A block of one parameter whose entries all have one role."""

    parameter: str
    """Its name in the module's `named_parameters()`."""
    rows: slice
    """Its rows: the entries of the parameter's first dimension."""
    columns: slice
    """Its columns: the entries of the second dimension; ignored for a bias."""
    role: RoleName
    """The role."""

    @property
    def meaning(self) -> str:
        """The role in words."""
        return MEANINGS[self.role]


ALL = slice(None)
"""All rows or columns."""
