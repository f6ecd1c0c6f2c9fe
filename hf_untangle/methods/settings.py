"""Every setting of an unlearning method, checked when it is made."""

from dataclasses import replace
from typing import Any

from pydantic import Field

from hf_untangle.arguments import checked_calls
from hf_untangle.config import Config
from hf_untangle.methods.registry import METHODS, Method, Optimizer, Retain, Writes

DISRUPTION_BUDGET = 0.01
"""Mean KL(original || model) on retain text, in nats per token, at which methods are compared in the literature."""


@checked_calls
class MethodConfig(Config):
    """The settings of a method beside those of `UnlearnConfig`; what is None is the method's own."""

    retain_objective: Retain | None = Field(default=None, description="What keeps the retain corpus: nll, kl, hidden or none.")
    writes: Writes | None = Field(
        default=None, description="What may be written: all, lora, modules, neurons, matrices, ffn, ffn outputs or filtered."
    )
    modules: tuple[str, ...] = Field(
        default=(), description="Ends of the names of modules: what writes=modules writes, and where lora puts its adapter."
    )
    neurons: float = Field(
        default=0.05, gt=0, le=1, description="With writes=neurons, the share of neurons of each kind that may be written."
    )
    layer: int | None = Field(
        default=None, description="Layer whose hidden states are read; a third of the way up when left out."
    )
    alternatives: tuple[str, ...] | None = Field(default=None, description="Answers that dpo prefers; refusals when left out.")
    beta: float | None = Field(default=None, gt=0, description="Of npo, simnpo, dpo, undial, wga and satimp.")
    delta: float | None = Field(default=None, description="Margin of simnpo, in nats per token.")
    sequence_sum: bool = Field(
        default=False,
        description="Sum log-probabilities over a row, as reference code does, instead of taking means (npo, dpo).",
    )
    gamma: float | None = Field(default=None, ge=0, description="Weight of the forget objective.")
    alpha: float | None = Field(default=None, ge=0, description="Weight of the retain objective.")
    optimizer: Optimizer | None = Field(default=None, description="adamw or sgd.")
    learning_rate: float | None = Field(
        default=None, gt=0, le=1e6, description="The learning rate; searched for inside the budget when left out."
    )
    search: tuple[float, ...] = Field(
        default=(0.3, 1.0, 3.0), description="Multiples of the method's own learning rate that short trials compare."
    )
    trial_steps: int = Field(default=8, ge=1, description="Steps of a trial.")
    steps: int = Field(default=32, ge=1, description="Optimizer steps, or strengths of an edit, at the most.")
    step_rows: int = Field(default=4, ge=1, description="Rows of each corpus in a step.")
    evaluate_every: int = Field(default=2, ge=1, description="Steps between two judgements.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Norm that gradients are clipped to.")
    rank: int = Field(default=16, ge=1, description="With writes=lora, the rank of the adapter.")
    components: int = Field(
        default=64, ge=1, description="Singular directions that filtered gradients and low-rank edits look at."
    )

    def apply_to(self, name: str) -> Method:
        """Put a method together, with what these settings change of it.

        Args:
            name: A key of `METHODS`.

        Returns:
            The method.
        """
        method = METHODS[name]
        strengths: dict[str, Any] = {"per_token": not self.sequence_sum}
        strengths |= {field: value for field in ("beta", "delta") if (value := getattr(self, field)) is not None}
        own = {"retain": self.retain_objective, "writes": self.writes, "optimizer": self.optimizer}
        own |= {"gamma": self.gamma, "alpha": self.alpha}
        changed: dict[str, Any] = {field: value for field, value in own.items() if value is not None}
        return replace(method, strengths=replace(method.strengths, **strengths), **changed)


SHOWN_ROWS = 8
"""Rows of each corpus that statistics are collected on where they choose nothing, and are only shown."""


def statistics_rows(own: MethodConfig) -> int:
    """How many rows of each corpus statistics of neurons are collected on, beside a method.

    Args:
        own: The settings of the method.

    Returns:
        All rows that it reads where it writes the neurons that they find, and a few where they are for the report.
    """
    rows = own.steps * own.step_rows
    return rows if own.writes == "neurons" else min(rows, SHOWN_ROWS)
