"""What a k-contrast experiment does, with the published one among the presets."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from hf_untangle.config import Config

LOW_ENTROPY = 0.5
"""Bits below this entropy count as low, where a share follows from them."""
LEAST_LOW_SHARE = 0.05
"""Share of low bits below which a model is left out, where a share follows from them."""


class ContrastExperimentConfig(Config):
    """Settings of a k-contrast experiment."""

    choices: int = Field(default=10, ge=2, description="k, the items in a problem.")
    bits: int = Field(default=32, ge=1, description="n, the bits of the message.")
    noise: float = Field(default=0.5, ge=0, description="Standard deviation of the channel's noise in training.")
    temperature: float = Field(default=1.0, gt=0, description="Steepness of the channel's sigmoid in training.")
    model: dict[str, Any] = Field(
        default={"filters": [16, 32], "embedding_size": 64, "hidden_size": 48},
        description="Sizes of the model, as in `ContrastConfig`.",
    )
    steps: int = Field(default=4000, ge=1, description="Updates of the weights.")
    batch_size: int = Field(default=32, ge=1, description="Problems in an update.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Of Adam.")
    seeds: int = Field(default=3, ge=1, description="Models that are trained, each with a seed of its own.")
    untrained: float = Field(
        default=0.8, gt=0, description="A model whose training loss is above this share of a guesser's is discarded."
    )
    shares: tuple[float | Literal["low"], ...] = Field(
        default=(0.1, 0.2, 0.3, 0.4, 0.5),
        description="Shares of bits to mask; `low` is the share of bits with an entropy under a half.",
    )
    ablation: Literal["mean", "half", "zero"] = Field(
        default="mean", description="What is read instead of a masked bit: its mean in training, a half, or zero."
    )
    entropy_on: Literal["eval", "train"] = Field(
        default="eval", description="Measure entropy on the set that is tested on, or on held-out items of the trained kind."
    )
    corrected: bool = Field(default=True, description="Whether entropies are corrected for small sets (Miller-Madow).")
    problems: int = Field(default=4096, ge=1, description="Problems that each set is tested with.")

    @classmethod
    def presets(cls) -> "Mapping[str, ContrastExperimentConfig]":
        """Settings by name.

        Returns:
            `default` and `paper`.
        """
        return PRESETS


PRESETS: dict[str, ContrastExperimentConfig] = {
    "default": ContrastExperimentConfig(),
    # 10 epochs of 50,000 images: 50,000 // 32 // 10 updates per epoch. Evaluation takes at most 500 batches.
    "paper": ContrastExperimentConfig(
        bits=512, model={}, steps=1560, shares=(0.3,), ablation="half", corrected=False, problems=500 * 32
    ),
}
"""Settings by name; `paper` is arXiv:2305.12238 for k = 10, after the authors' public code."""
