"""Every setting of a repair, checked when it is made."""

from typing import Literal

from pydantic import Field

from hf_untangle.config import Config
from hf_untangle.data.documents import ChatMode

Method = Literal["lora", "full"]
"""What is trained: a low-rank adapter that is merged in the end, or all weights."""

LEARNING_RATE: dict[Method, float] = {"lora": 5e-4, "full": 5e-5}
"""The largest learning rate where none is set, by method."""


class RepairConfig(Config):
    """The settings of a repair."""

    method: Method = Field(default="lora", description="Train a low-rank adapter and merge it, or train all weights.")
    steps: int = Field(
        default=25, ge=1, description="Optimizer steps. More steps recover more retain accuracy, and some forget accuracy."
    )
    step_tokens: int = Field(default=1024, ge=2, description="Tokens of the retain corpus in a step.")
    learning_rate: float | None = Field(
        default=None, gt=0, description="The largest learning rate; the method's own when left out."
    )
    warmup: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decay of the weights, as AdamW takes it.")
    rank: int = Field(default=16, ge=1, description="With method=lora, the rank of the adapter.")
    distill: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the original model's predictions in the target, True for all of it; the rest is the text.",
    )
    distill_top: int = Field(
        default=128,
        ge=1,
        description="Most likely tokens that are kept of each prediction of the original; all others count as one.",
    )
    distill_temperature: float = Field(
        default=1.0, gt=0, description="What logits are divided by to distill; above 1, unlikely tokens count more."
    )
    block_size: int = Field(default=256, ge=2, description="Tokens in a block.")
    chat: ChatMode = Field(
        default="auto", description="Write rows by the model's chat template: where there is one (auto), always, or never."
    )
    batch_size: int = Field(default=4, ge=1, description="Blocks in a forward pass; more passes make up a step.")
    evaluation_tokens: int = Field(default=6_144, ge=1, description="Held-out tokens of each corpus that are measured.")
    seed: int = Field(default=0, description="For the adapter's first weights and the order of blocks.")

    @property
    def rate(self) -> float:
        """The largest learning rate."""
        return self.learning_rate or LEARNING_RATE[self.method]

    @property
    def passes(self) -> int:
        """Forward passes in a step, at least one."""
        return max(1, round(self.step_tokens / (self.block_size * self.batch_size)))
