"""Every setting of the attacks, checked when it is made, and how much work they are."""

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveFloat

from hf_untangle.arguments import checked_calls
from hf_untangle.config import Config
from hf_untangle.configs.repair import Method, RepairConfig
from hf_untangle.progress import Work

Attack = Literal[
    "quantize",
    "relearn",
    "few-shot",
    "neighbor",
    "logit-lens",
    "adapter",
    "int4",
    "patching",
    "direction",
    "weight-difference",
    "noise",
    "formats",
    "best-of",
    "tuned-lens",
    "probe",
    "prune",
    "benign",
    "held-out-facts",
]
"""The attacks by name, in the order in which they are run."""
NAMES: tuple[Attack, ...] = get_args(Attack)


@checked_calls
class AttackConfig(Config):
    """The settings of the attacks."""

    attacks: tuple[Attack, ...] = Field(default=NAMES, min_length=1, description="Which attacks to run.")
    weight_space: bool = Field(
        default=True, description="Say how far, and in how many directions, the weights have moved, and what lies on the way."
    )
    seeds: int = Field(default=3, ge=1, description="How often to repeat what is drawn: samples, training, random masks.")
    max_seconds: float = Field(default=1800.0, gt=0, description="The longest time for one attack.")
    total_seconds: float | None = Field(
        default=None, gt=0, description="The longest time for all attacks; those that it leaves no time for are not run."
    )
    samples: int = Field(default=64, ge=1, description="Blocks of the forget corpus that relearning sees, again and again.")
    learning_rates: tuple[PositiveFloat, ...] = Field(
        default=(3e-4, 1e-3, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6),
        min_length=1,
        description="Largest learning rates that relearning tries, in this order; the worst outcome counts.",
    )
    relearn_methods: tuple[Method, ...] = Field(
        default=("full", "lora"),
        min_length=1,
        description="What relearning trains, in this order: all weights, a low-rank adapter, or both.",
    )
    warmups: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        default=(0.1, 0.0), min_length=1, description="Shares of the steps of relearning in which the learning rate rises."
    )
    tune_all: bool = Field(
        default=True,
        description="Search the worst relearning of every model; otherwise all are trained as is worst for the result.",
    )
    steps: int = Field(default=60, ge=1, description="Optimizer steps of relearning and of benign training.")
    step_tokens: int = Field(default=1024, ge=2, description="Tokens in a step.")
    points: int = Field(default=5, ge=1, description="How often a training is measured, at growing distances.")
    method: Method = Field(default="lora", description="What benign training trains: a low-rank adapter, or all weights.")
    learning_rate: float | None = Field(
        default=None, gt=0, description="The largest learning rate of benign training; the method's own when left out."
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

    def relearnings(self) -> tuple[RepairConfig, ...]:
        """Every way to relearn that is tried: each learning rate with each method and warm-up.

        Returns:
            What `repairs` trains by, with the first seed.
        """
        ways = product(self.learning_rates, self.relearn_methods, self.warmups)
        names = ("learning_rate", "method", "warmup")
        return tuple(self.training(self.seed).with_settings(**dict(zip(names, way, strict=True))) for way in ways)

    def training(self, seed: int) -> RepairConfig:
        """The settings of one benign training.

        Args:
            seed: For the adapter's first weights and the order of blocks.

        Returns:
            What `repairs` trains by.
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
    attacks=tuple(name for name in NAMES if name not in ("benign", "held-out-facts")),
    seeds=2,
    max_seconds=240,
    total_seconds=570,
    samples=16,
    learning_rates=(3e-4, 1e-3, 1e-4),
    warmups=(0.1,),
    tune_all=False,
    steps=12,
    step_tokens=512,
    points=3,
    shots=(2,),
    evaluation_tokens=2_048,
)
"""Settings that fit ten minutes for SmolLM2 on two cores."""


KINDS = 3
"""Models that are attacked: the result, the original and a random mask; a gold model makes four."""


def trainings(config: AttackConfig) -> int:
    """Count the trainings of all attacks.

    Args:
        config: The settings.

    Returns:
        How many models are trained.
    """
    runs = KINDS * config.seeds
    searched = runs + (KINDS if config.tune_all else 1) * (len(config.relearnings()) - 1)
    per_attack = {"relearn": searched, "held-out-facts": searched, "benign": runs}
    return sum(per_attack.get(name, 0) for name in config.attacks)


def attack_work(config: AttackConfig) -> Work:
    """Count what attacks do when none meets its time limit.

    Args:
        config: The settings.

    Returns:
        Tokens of each kind of work.
    """
    trained, runs = trainings(config), KINDS * config.seeds
    training = config.training(config.seed)
    tokens = trained * config.steps * training.passes * training.batch_size * training.block_size
    return {"training": tokens, "forward": config.evaluation_tokens * (trained * (config.points + 1) + 8 * runs)}
