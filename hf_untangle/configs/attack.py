"""Every setting of the attacks, checked when it is made."""

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field

from hf_untangle.config import Config
from hf_untangle.configs.repair import Method, RepairConfig

Attack = Literal["quantize", "relearn", "benign", "few-shot", "neighbor", "logit-lens", "adapter"]
"""The attacks by name, in the order in which they are run."""
NAMES: tuple[Attack, ...] = get_args(Attack)


class AttackConfig(Config):
    """The settings of the attacks."""

    attacks: tuple[Attack, ...] = Field(default=NAMES, min_length=1, description="Which attacks to run.")
    seeds: int = Field(default=3, ge=1, description="How often to repeat what is drawn: samples, training, random masks.")
    max_seconds: float = Field(default=1800.0, gt=0, description="The longest time for one attack.")
    samples: int = Field(default=64, ge=1, description="Blocks of the forget corpus that relearning sees, again and again.")
    steps: int = Field(default=60, ge=1, description="Optimizer steps of relearning and of benign training.")
    step_tokens: int = Field(default=1024, ge=2, description="Tokens in a step.")
    points: int = Field(default=5, ge=1, description="How often a training is measured, at growing distances.")
    method: Method = Field(default="lora", description="Train a low-rank adapter, or all weights.")
    learning_rate: float | None = Field(
        default=None, gt=0, description="The largest learning rate; the method's own when left out."
    )
    shots: tuple[int, ...] = Field(default=(1, 2, 4), description="How many examples stand in the context.")
    block_size: int = Field(default=128, ge=2, description="Tokens of a sample and of an example.")
    batch_size: int = Field(default=4, ge=1, description="Blocks in a forward pass.")
    evaluation_tokens: int = Field(default=4_096, ge=1, description="Held-out tokens of a corpus that are measured.")
    seed: int = Field(default=0, description="The first seed; the others count on from it.")

    @property
    def all_seeds(self) -> range:
        """The seeds, in order."""
        return range(self.seed, self.seed + self.seeds)

    def training(self, seed: int) -> RepairConfig:
        """The settings of one training run.

        Args:
            seed: For the adapter's first weights and the order of blocks.

        Returns:
            What `repairing` trains by.
        """
        names = ("method", "steps", "step_tokens", "learning_rate", "block_size", "batch_size")
        return RepairConfig(**{name: getattr(self, name) for name in names}, seed=seed)

    @classmethod
    def presets(cls) -> "Mapping[str, AttackConfig]":
        """Settings by name.

        Returns:
            `default`, and `quick`, which fits ten minutes for SmolLM2 on two cores.
        """
        return {"default": cls(), "quick": QUICK}


QUICK = AttackConfig(
    seeds=2, max_seconds=150, samples=16, steps=12, step_tokens=512, points=3, shots=(2,), evaluation_tokens=2_048
)
"""Settings that fit ten minutes for SmolLM2 on two cores."""
