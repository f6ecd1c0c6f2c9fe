"""Every setting of a compression run, checked when it is made."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hf_untangle.compensation.refit import Compensation, with_ablation
from hf_untangle.config import Config, known
from hf_untangle.data.documents import ChatMode
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.masks.ablation import Ablation

Allocation = Literal["uniform", "global"]
"""Whether every layer loses the same share, or all layers compete by importance relative to their own mean."""


class PruneConfig(Config):
    """The settings of compression with one corpus. Ratios are shares of FFN neurons, from 0 to 1."""

    ratio: float = Field(default=0.25, gt=0, lt=1, description="Share of all FFN neurons to remove.")
    parameters: int | None = Field(
        default=None, ge=1, description="Weights and biases to remove at the most, instead of a ratio."
    )
    per_layer: tuple[float, ...] | None = Field(
        default=None, description="Share of the FFN neurons of each layer to remove, instead of a ratio for all."
    )
    allocation: Allocation = Field(
        default="uniform", description="Whether every layer loses the same share, or all layers compete."
    )
    importance: str = Field(default="wanda", description="What a neuron is worth; the lowest go first.")
    ablation: Ablation = Field(
        default="zero", description="What a removed neuron reads: zero, its mean, or its mode, held in a bias at the end."
    )
    compensate: Compensation = Field(
        default="none",
        description="What makes up for removed neurons: nothing, their mean in a bias, or new weights for the kept ones.",
    )
    compact: Literal["uniform", "ragged"] | None = Field(
        default=None, description="Take removed neurons out of the tensors: all layers as wide as the widest, or each as it is."
    )
    round_to: int | None = Field(
        default=None, ge=1, description="With compact, round widths up to a multiple, which fast kernels like: 64, 128 or 256."
    )
    tokens: int = Field(default=32_768, ge=1, description="Tokens that statistics are collected on.")
    gradient_tokens: int = Field(default=12_288, ge=1, description="Tokens that gradients are collected on, where needed.")
    evaluation_tokens: int = Field(default=16_384, ge=1, description="Held-out tokens that the result is measured on.")
    block_size: int = Field(default=256, ge=2, description="Tokens in a block.")
    chat: ChatMode = Field(
        default="auto", description="Write rows by the model's chat template: where there is one (auto), always, or never."
    )
    batch_size: int = Field(default=8, ge=1, description="Blocks in a forward pass.")
    packed: bool = Field(default=True, description="Pack documents into full blocks; otherwise one padded document per block.")
    controls: int = Field(default=1, ge=0, description="Random masks of equal size that the result is compared with.")
    seed: int = Field(default=0, description="For the random masks.")

    @model_validator(mode="before")
    @classmethod
    def _mean_is_an_ablation(cls, values: Any) -> Any:
        """Take compensation by the mean for what it is."""
        return with_ablation(values)

    @field_validator("importance")
    @classmethod
    def _known_importance(cls, value: str) -> str:
        """Refuse an importance that does not exist."""
        return known(value, IMPORTANCE)

    @field_validator("per_layer")
    @classmethod
    def _shares(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        """Refuse shares outside 0 to 1, and a list that removes nothing."""
        if value is not None and (not all(0 <= share < 1 for share in value) or not any(value)):
            raise ValueError(f"every share must be at least 0 and below 1, and one above 0, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _one_budget(self) -> "PruneConfig":
        """Refuse two budgets at once."""
        if self.parameters is not None and self.per_layer is not None:
            raise ValueError("the budget must be either `parameters` or `per_layer`, got both")
        if self.allocation == "global" and self.per_layer is not None:
            raise ValueError("`per_layer` says what each layer loses, got allocation='global' too: leave one of them out")
        return self
