"""What a k-contrast experiment measured, ready for JSON."""

from statistics import fmean, stdev

from pydantic import BaseModel, ConfigDict

from hf_untangle.entropy.contrast_config import ContrastExperimentConfig


class ModelRecord(BaseModel):
    """One trained model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    loss: float
    """Training loss in nats."""
    of_chance: float
    """The loss as a share of a guesser's."""
    left_out: str | None
    """Why it was not measured; None when it was."""
    entropy: dict[str, tuple[float, ...]] = {}
    """Entropy of every bit on each set, in bits, sorted."""
    always_on: dict[str, int] = {}
    """Bits that were on for every item of a set."""
    always_off: dict[str, int] = {}
    """Bits that were off for every item of a set."""


class Cell(BaseModel):
    """Accuracy of one model on one set under one mask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    set: str
    share: float | str
    """As it was asked for: a share, or `low`."""
    masked: int
    """Bits."""
    order: str
    """A key of `ORDERS`."""
    before: float
    """Accuracy without a mask."""
    after: float

    @property
    def change(self) -> float:
        """Accuracy that the mask adds, negative when it costs."""
        return self.after - self.before


class ContrastRecord(BaseModel):
    """A whole experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: ContrastExperimentConfig
    source: str
    """Where the training items come from."""
    sets: tuple[str, ...]
    """Names of the sets; the first is in distribution."""
    models: tuple[ModelRecord, ...]
    cells: tuple[Cell, ...]

    def changes(self, name: str, order: str, share: float | str) -> list[float]:
        """Change of accuracy of every model.

        Args:
            name: The set.
            order: A key of `ORDERS`.
            share: One of the settings' shares.

        Returns:
            One number a model that was measured.
        """
        return [cell.change for cell in self.cells if (cell.set, cell.order, cell.share) == (name, order, share)]

    def base(self, name: str) -> list[float]:
        """Accuracy of every model without a mask.

        Args:
            name: The set.

        Returns:
            One number a model that was measured.
        """
        return list({cell.seed: cell.before for cell in self.cells if cell.set == name}.values())


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over models.

    Args:
        values: At least one.

    Returns:
        Both; the deviation of a single value is 0.
    """
    return fmean(values), stdev(values) if len(values) > 1 else 0.0
