"""What a k-contrast experiment measured, ready for JSON."""

from pydantic import ConfigDict

from hf_untangle.config import Plain
from hf_untangle.entropy.neuron_record import MaskingRecord
from hf_untangle.papers.contrast.contrast_config import ContrastExperimentConfig


class ModelRecord(Plain):
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


class Cell(Plain):
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
    def base(self) -> float:
        """Accuracy without the mask."""
        return self.before

    @property
    def change(self) -> float:
        """Accuracy that the mask adds, negative when it costs."""
        return self.after - self.before


class ContrastRecord(MaskingRecord):
    """A whole experiment."""

    settings: ContrastExperimentConfig
    source: str
    """Where the training items come from."""
    models: tuple[ModelRecord, ...]
    cells: tuple[Cell, ...]
