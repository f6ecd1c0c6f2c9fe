"""What an experiment on the neurons of a language model does and measures, ready for JSON."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hf_untangle.config import Config
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


class NeuronCell(BaseModel):
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
    def change(self) -> float:
        """Next-token accuracy that the mask adds, negative when it costs."""
        return self.after.top1 - self.before.top1


class NeuronRecord(BaseModel):
    """A whole experiment on a language model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: NeuronEntropyConfig
    model: str
    sets: tuple[str, ...]
    """Names of the texts; the first is in distribution."""
    cells: tuple[NeuronCell, ...]

    def changes(self, name: str, order: str, share: float | str) -> list[float]:
        """Change of next-token accuracy for every seed.

        Args:
            name: The text.
            order: Which neurons went first.
            share: One of the settings' shares.

        Returns:
            One number a seed.
        """
        return [cell.change for cell in self.cells if (cell.set, cell.order, cell.share) == (name, order, share)]

    def base(self, name: str) -> list[float]:
        """Next-token accuracy without a mask.

        Args:
            name: The text.

        Returns:
            A single number, as the model is one.
        """
        return [next(cell.before.top1 for cell in self.cells if cell.set == name)]
