"""What a job is going to do, stage by stage, with an estimate of time and memory: a dry run reads no weights and no text."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from hf_untangle.reporting.numbers import duration


@dataclass(frozen=True)
class Stage:
    """One stage of a job."""

    name: str
    what: str
    """What it does, in words."""
    operations: int = 0
    """Multiplications and additions, at the most."""
    memory: int = 0
    """Bytes at its peak, weights included."""

    def seconds(self, speed: float) -> float:
        """How long it takes.

        Args:
            speed: Operations a second.

        Returns:
            Seconds.
        """
        return self.operations / speed


@dataclass(frozen=True)
class Plan:
    """All stages of a job, on this machine."""

    recipe: dict[str, Any]
    """Every key of the recipe, with its defaults."""
    stages: tuple[Stage, ...]
    """None where the job gives no estimate."""
    speed: float
    """Operations a second."""

    def record(self) -> dict[str, Any]:
        """The plan as values that JSON can hold.

        Returns:
            The recipe, and name, seconds and bytes of every stage.
        """
        stages = [
            {"stage": one.name, "what": one.what, "seconds": one.seconds(self.speed), "bytes": one.memory}
            for one in self.stages
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
            time = duration(one.seconds(self.speed)) if one.operations else ""
            table.add_row(one.name, one.what, time, size_in_words(one.memory) if one.memory else "")
        total = sum(one.seconds(self.speed) for one in self.stages)
        table.add_row("all", "", duration(total), size_in_words(max(one.memory for one in self.stages)), style="bold")
        console.print(table)
        console.print(
            "An estimate, at the most: a run stops early where a target or a budget is met. Loading, reading text and"
        )
        console.print("writing files come on top. Nothing was read but the configuration, and nothing was written.")


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
