"""Every setting of the benchmark of methods, checked when it is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import Field, PositiveFloat, field_validator

from hf_untangle.arguments import checked_calls
from hf_untangle.config import Config, known
from hf_untangle.configs.attack import Attack
from hf_untangle.methods.choose import AUTO, PRUNE, method_names
from hf_untangle.methods.registry import Writes


@dataclass(frozen=True)
class Contender:
    """One way to unlearn that takes part."""

    names: tuple[str, ...]
    """Methods in the order in which they are applied."""
    writes: str | None
    """What they may write; each method's own where None."""

    @classmethod
    def of(cls, written: str) -> "Contender":
        """Read a contender.

        Args:
            written: Methods joined by `+`, with `@` and what they may write, such as `prune+npo@neurons`.

        Returns:
            The contender.

        Raises:
            ConfigError: A method is unknown, or methods cannot be joined.
            ValueError: It is not known what may be written, or pruning alone is told so.
        """
        methods, _, writes = written.partition("@")
        names = method_names(methods.split("+"))
        if writes and names in ((PRUNE,), (AUTO,)):
            raise ValueError(f"pruning alone and `auto` must have no `@`, got `{written}`: they choose what they write")
        return cls(names, known(writes, get_args(Writes)) if writes else None)

    @property
    def only_prunes(self) -> bool:
        """Whether it has no learning rate."""
        return self.names == (PRUNE,)


@checked_calls
class MethodsBenchConfig(Config):
    """The settings of the benchmark of methods: the same budgets, text and number of trials for all."""

    methods: tuple[str, ...] = Field(
        default=("auto", "prune", "graddiff", "npo", "simnpo", "rmu", "npo@neurons", "prune+npo", "prune+graddiff"),
        min_length=1,
        description="What unlearns: methods by name, several joined by `+` one after another, `@` before what they may write.",
    )
    seeds: int = Field(default=1, ge=1, description="How often each method runs, with seeds from 0 on.")
    disruption_budget: float = Field(
        default=0.05, gt=0, description="Mean KL(original || model) that is allowed on retain, in nats per token."
    )
    retain_budget: float = Field(default=0.05, ge=0, le=1, description="Relative drop of retain top-1 that is allowed.")
    perplexity_budget: float = Field(default=3.0, ge=1, description="Factor by which retain perplexity may grow.")
    forget_target: float = Field(default=1.0, gt=0, le=1, description="Relative drop of forget top-1 that ends a run.")
    trials: tuple[PositiveFloat, ...] = Field(
        default=(0.3, 1.0, 3.0),
        min_length=1,
        description="Multiples of a method's learning rate that short trials compare; of the size of steps for pruning alone.",
    )
    steps: int = Field(default=32, ge=1, description="Optimizer steps, or strengths of an edit, at the most.")
    step_rows: int = Field(default=4, ge=1, description="Rows of each corpus in a step.")
    prune_steps: int = Field(default=6, ge=1, description="Steps of pruning alone, at the most.")
    prune_fraction: float = Field(
        default=0.01, gt=0, le=1, description="Share of the neurons of either kind that a step of pruning removes."
    )
    tokens: int = Field(default=20_480, ge=2, description="Tokens of each corpus that statistics are collected on.")
    evaluation_tokens: int = Field(default=8_192, ge=2, description="Tokens of each corpus that are measured.")
    gradient_tokens: int = Field(default=8_192, ge=2, description="Retain tokens that pruning ranks candidates by.")
    block_size: int = Field(default=256, ge=2, description="Tokens in a block.")
    attacks: tuple[Attack, ...] = Field(default=("relearn", "quantize"), description="What tries to get the rest back.")
    relearning_steps: int = Field(default=24, ge=1, description="Optimizer steps of relearning.")
    relearning_rates: tuple[PositiveFloat, ...] = Field(
        default=(3e-4, 1e-3), min_length=1, description="Learning rates of relearning; the worst outcome counts."
    )

    @field_validator("methods")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse methods that do not exist, or that are named twice."""
        if len(set(value)) < len(value):
            raise ValueError(f"must name every method once, got {list(value)!r}")
        for written in value:
            Contender.of(written)
        return value

    def of_run(self, contender: Contender, seed: int) -> dict[str, Any]:
        """The settings of one run of `unlearn`.

        Args:
            contender: What unlearns.
            seed: Of the run.

        Returns:
            Keywords of `unlearn`.
        """
        names = ("disruption_budget", "retain_budget", "perplexity_budget", "forget_target")
        names += ("tokens", "evaluation_tokens", "block_size")
        shared = {name: getattr(self, name) for name in names} | {"seed": seed, "controls": 1}
        if PRUNE in contender.names:
            shared |= {"ffn_fraction": self.prune_fraction, "attention_fraction": self.prune_fraction}
            shared["gradient_tokens"] = self.gradient_tokens
        if contender.names == (AUTO,):
            return shared
        if contender.only_prunes:
            return shared | {"steps": self.prune_steps}
        own = {"steps": self.steps, "step_rows": self.step_rows, "search": self.trials}
        return shared | own | ({} if contender.writes is None else {"writes": contender.writes})

    def of_attack(self, seed: int) -> dict[str, Any]:
        """The settings of the attacks on one result.

        Args:
            seed: Of the run.

        Returns:
            Keywords of `UnlearnResult.attack`.
        """
        relearning = {"learning_rates": self.relearning_rates, "steps": self.relearning_steps, "relearn_methods": ("lora",)}
        how = {"attacks": self.attacks, "seeds": 1, "seed": seed, "warmups": (0.1,), "tune_all": False}
        return how | relearning | {"samples": 16, "step_tokens": 512, "points": 3, "evaluation_tokens": 2_048}

    @classmethod
    def presets(cls) -> "Mapping[str, MethodsBenchConfig]":
        """Settings by name.

        Returns:
            `default`, and `quick`: four methods, one seed, meant for half an hour of SmolLM2 on two cores.
        """
        return {"default": cls(), "quick": QUICK}


QUICK = MethodsBenchConfig(
    methods=("auto", "prune", "graddiff", "npo"),
    trials=(1.0,),
    steps=10,
    prune_steps=3,
    tokens=8_192,
    evaluation_tokens=4_096,
    gradient_tokens=4_096,
    relearning_steps=8,
    relearning_rates=(1e-3,),
)
"""Settings meant for half an hour of SmolLM2 on two cores."""
