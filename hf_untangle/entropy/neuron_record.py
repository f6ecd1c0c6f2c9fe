"""What an experiment on the neurons of a language model does and measures, ready for JSON."""

from statistics import fmean, stdev
from typing import Any, Literal

from pydantic import ConfigDict, Field

from hf_untangle.config import Config, Plain
from hf_untangle.evaluation.next_token import NextTokenMetrics

NeuronOrder = Literal["bottom", "top", "random"]


class NeuronEntropyConfig(Config):
    """Settings of the experiment on a language model's neurons."""

    shares: tuple[float, ...] = Field(default=(0.05, 0.1, 0.2), description="Shares of the neurons of each kind to mask.")
    orders: tuple[NeuronOrder, ...] = Field(default=("bottom", "top", "random"), description="Which neurons go first.")
    kinds: tuple[Literal["ffn", "attention"], ...] = Field(default=("ffn",), description="Kinds of neurons that are masked.")
    ablation: Literal["mean", "zero"] = Field(
        default="mean", description="What a masked neuron reads: its mean where its entropy was measured, or zero."
    )
    scope: Literal["global", "layer"] = Field(default="layer", description="Rank neurons in each layer, or over all of them.")
    seeds: int = Field(default=3, ge=1, description="Parts of the text that entropy is measured on, one at a time.")
    tokens: int = Field(default=8192, ge=1, description="Tokens of one such part.")
    evaluation_tokens: int = Field(default=4096, ge=2, description="Tokens of every text that is tested on.")
    block_size: int = Field(default=256, ge=2, description="Tokens in a block.")
    batch_size: int = Field(default=8, ge=1, description="Blocks in one forward pass.")


class MaskingRecord(Plain):
    """Any experiment in which masks cost accuracy: neurons of a language model, or bits of a message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: Any
    """What was done, with the `shares` that were masked."""
    sets: tuple[str, ...]
    """Names of what was tested on; the first is in distribution."""
    cells: tuple[Any, ...]
    """One measurement each, with its `seed`, `set`, `order`, `share`, accuracy without the mask (`base`) and `change`."""

    def changes(self, name: str, order: str, share: float | str) -> list[float]:
        """Change of accuracy of every repetition.

        Args:
            name: The set.
            order: What was masked first.
            share: One of the settings' shares.

        Returns:
            One number per repetition.
        """
        return [cell.change for cell in self.cells if (cell.set, cell.order, cell.share) == (name, order, share)]

    def base(self, name: str) -> list[float]:
        """Accuracy of every repetition without a mask.

        Args:
            name: The set.

        Returns:
            One number per repetition.
        """
        return list({cell.seed: cell.base for cell in self.cells if cell.set == name}.values())


class NeuronCell(Plain):
    """What a language model predicts on one text with some neurons masked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    set: str
    share: float
    masked: int
    """Neurons."""
    order: NeuronOrder
    before: NextTokenMetrics
    after: NextTokenMetrics

    @property
    def base(self) -> float:
        """Next-token accuracy without the mask."""
        return self.before.top1

    @property
    def change(self) -> float:
        """Next-token accuracy that the mask adds, negative when it costs."""
        return self.after.top1 - self.before.top1


class NeuronRecord(MaskingRecord):
    """A whole experiment on a language model."""

    settings: NeuronEntropyConfig
    model: str
    cells: tuple[NeuronCell, ...]


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over repetitions, such as models or seeds.

    Args:
        values: At least one.

    Returns:
        Both; the deviation of a single value is 0.
    """
    return fmean(values), stdev(values) if len(values) > 1 else 0.0
