"""Every setting of `robustify`, checked when it is made."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hf_untangle.config import Config
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.data.documents import ChatMode

FORWARDS = 3
"""Passes forward that a token of distillation costs the student, there and back; the teacher reads its text once."""


class RobustifyConfig(Config):
    """The settings of `robustify`."""

    strength: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="How far weights are shrunk towards noise. More withstands longer relearning, and needs more tokens.",
    )
    noise: float = Field(
        default=0.1, ge=0, description="Scale of that noise, relative to freshly initialized weights (Xavier); 0 only shrinks."
    )
    tokens: int = Field(default=200_000, ge=1, description="Tokens that the student is trained on at the most.")
    tolerance: float = Field(
        default=0.05,
        ge=0,
        description="Distillation ends once KL(unlearned || student) on held-out retain text is so low, in nats per token.",
    )
    checks: int = Field(default=10, ge=1, description="How often the tolerance is looked at, at equal distances.")
    text_tokens: int = Field(
        default=100_000, ge=1, description="Tokens of the retain corpus to distill on, again and again as long as needed."
    )
    own_tokens: int = Field(
        default=16_384,
        ge=0,
        description="Tokens that the unlearned model writes itself, to distill on beside them; 0 for none. Writing takes time.",
    )
    learning_rate: float = Field(default=4e-4, gt=0, description="The largest learning rate; all weights are trained.")
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    step_tokens: int = Field(default=2048, ge=2, description="Tokens in an optimizer step.")
    block_size: int = Field(default=256, ge=2, description="Tokens in a block.")
    batch_size: int = Field(default=4, ge=1, description="Blocks in a forward pass; more passes make up a step.")
    chat: ChatMode = Field(
        default="auto", description="Write rows by the model's chat template: where there is one (auto), always, or never."
    )
    evaluation_tokens: int = Field(default=6_144, ge=1, description="Held-out tokens of each corpus that are measured.")
    seed: int = Field(default=0, description="For the noise, the text that the model writes, and the order of blocks.")

    @property
    def training(self) -> RepairConfig:
        """The distillation as `repairs` trains: all weights, by the predictions of the unlearned model alone."""
        names = ("learning_rate", "warmup", "step_tokens", "block_size", "batch_size", "seed")
        shared = {name: getattr(self, name) for name in names}
        one = RepairConfig(method="full", distill=1.0, **shared)
        return one.with_settings(steps=max(1, self.tokens // (one.passes * one.batch_size * one.block_size)))

    @property
    def distilled_tokens(self) -> int:
        """Tokens of all steps, where the tolerance is not met before."""
        training = self.training
        return training.steps * training.passes * training.batch_size * training.block_size

    @property
    def read_tokens(self) -> int:
        """Tokens that are run forward alone at the most: the text by its teacher, text of its own, and checks."""
        return self.text_tokens + 2 * self.own_tokens + (self.checks + 1) * self.evaluation_tokens

    @property
    def forward_tokens(self) -> int:
        """What `robustify` costs at the most, as a number of tokens in forward passes."""
        return FORWARDS * self.distilled_tokens + self.read_tokens


def as_settings(value: Any) -> Any:
    """Take a number for settings of that strength.

    Args:
        value: A number, settings, or anything else.

    Returns:
        Fields by name where it is a number or settings, and otherwise the same.
    """
    if isinstance(value, RobustifyConfig):
        return value.model_dump()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"strength": float(value)} if is_number else value


Robustify = Annotated[RobustifyConfig, BeforeValidator(as_settings)]
"""The settings, or the strength alone."""
