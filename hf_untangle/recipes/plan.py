"""What a job is going to do, stage by stage, with an estimate of time and memory: a dry run reads no weights and no text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from hf_untangle.recipes.speed import Speed
from hf_untangle.reporting.formatting import duration


@dataclass(frozen=True)
class Stage:
    """One stage of a job."""

    name: str
    what: str
    """What it does, in words."""
    forward: int = 0
    """Parameters times tokens of passes forward, at the most."""
    backward: int = 0
    """The same of passes forward and back."""
    memory: int = 0
    """Bytes at its peak, weights included."""

    def seconds(self, speed: Speed) -> float:
        """How long it takes.

        Args:
            speed: Of the model's layers on this machine.

        Returns:
            Seconds.
        """
        return self.forward / speed.forward + self.backward / speed.backward


@dataclass(frozen=True)
class Plan:
    """All stages of a job, on this machine."""

    recipe: dict[str, Any]
    """Every key of the recipe, with its defaults."""
    stages: tuple[Stage, ...]
    """None where the job gives no estimate."""
    speed: Speed | None
    """Of the model's layers; None where they could not be timed."""

    def record(self) -> dict[str, Any]:
        """The plan as values that JSON can hold.

        Returns:
            The recipe, and name, seconds and bytes of every stage.
        """
        stages = [
            {"stage": one.name, "what": one.what, "seconds": self.seconds(one), "bytes": one.memory} for one in self.stages
        ]
        return {"recipe": self.recipe, "stages": stages}

    def show(self, console: Console) -> None:
        """Print the recipe and the stages.

        Args:
            console: Where to print.
        """
        for key, value in self.recipe.items():
            if value not in (None, {}, ()):
                console.print(f"{key}: {value}", highlight=False)
        if not self.stages:
            console.print("Every key is valid. This task gives no estimate of time and memory.")
            return
        table = Table("stage", "what", "time", "memory")
        for one in self.stages:
            table.add_row(one.name, one.what, self._time(one), size_in_words(one.memory) if one.memory else "")
        memory = size_in_words(max(one.memory for one in self.stages))
        table.add_row("all", "", self._time(*self.stages), memory, style="bold")
        console.print(table)
        console.print(
            "An estimate, at the most: a run stops early where a target or a budget is met. Loading, reading text and"
        )
        console.print("writing files come on top. Nothing was read but the configuration, and nothing was written.")

    def seconds(self, stage: Stage) -> float | None:
        """How long a stage takes on this machine.

        Args:
            stage: One of the stages.

        Returns:
            Seconds; None where the speed is not known.
        """
        return None if self.speed is None else stage.seconds(self.speed)

    def _time(self, *stages: Stage) -> str:
        """The time of some stages in words; nothing where it is not known, or next to nothing."""
        seconds = sum(self.seconds(one) or 0 for one in stages)
        return duration(seconds) if seconds else ""


def size_in_words(number: int) -> str:
    """Write a number of bytes.

    Args:
        number: How many.

    Returns:
        Such as `1.5 GB`.
    """
    size = float(number)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


@dataclass(frozen=True)
class Outcome:
    """What came of a job, which has written its files already."""

    record: Any
    """Everything measured, ready for JSON."""
    show: Callable[[Console], None]
    """Prints the same for a person, with where the files are."""
