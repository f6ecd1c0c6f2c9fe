"""The result of a job: numbers for machines, a table for people."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console


@dataclass(frozen=True)
class Outcome:
    """What came of a job, which has written its files already."""

    record: Any
    """Everything measured, ready for JSON."""
    show: Callable[[Console], None]
    """Prints the same for a person, with where the files are."""
