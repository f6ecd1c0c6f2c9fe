"""Types of the keywords that override single settings; written by scripts/write_settings.py."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

from pydantic import Field, PositiveFloat

from hf_untangle.compensation.refit import Compensation
from hf_untangle.config import BatchSizeSetting
from hf_untangle.configs.attack import Attack
from hf_untangle.configs.prune import Allocation, Judge, Unit
from hf_untangle.configs.repair import Method
from hf_untangle.data.documents import ChatMode
from hf_untangle.data.two_corpora import Split
from hf_untangle.masks.ablation import Ablation
from hf_untangle.masks.select import Scope


class AttackSettings(TypedDict, total=False):
    """Single fields of `AttackConfig`, which says what each is."""

    attacks: Sequence[Attack]
    weight_space: bool
    seeds: int
    max_seconds: float
    total_seconds: float | None
    samples: int
    learning_rates: Sequence[PositiveFloat]
    relearn_methods: Sequence[Method]
    warmups: Sequence[Annotated[float, Field(ge=0, lt=1)]]
    tune_all: bool
    steps: int
    step_tokens: int
    points: int
    method: Method
    learning_rate: float | None
    shots: Sequence[int]
    block_size: int
    batch_size: int
    evaluation_tokens: int
    seed: int


class PruneSettings(TypedDict, total=False):
    """Single fields of `PruneConfig`, which says what each is."""

    unit: Unit
    judge: Judge | None
    ratio: float
    parameters: int | None
    memory: str | None
    target: str | None
    per_layer: Sequence[float] | None
    allocation: Allocation
    importance: str
    ablation: Ablation
    compensate: Compensation
    block_steps: int
    compact: Literal["uniform", "ragged"] | None
    round_to: int | None
    tokens: int
    search_tokens: int
    gradient_tokens: int
    evaluation_tokens: int
    block_size: int
    chat: ChatMode
    batch_size: int
    packed: bool
    controls: int
    seed: int


class RepairSettings(TypedDict, total=False):
    """Single fields of `RepairConfig`, which says what each is."""

    method: Method
    steps: int
    step_tokens: int
    learning_rate: float | None
    warmup: float
    weight_decay: float
    rank: int
    distill: float
    distill_top: int
    distill_temperature: float
    block_size: int
    chat: ChatMode
    batch_size: int
    evaluation_tokens: int
    seed: int


class RobustifySettings(TypedDict, total=False):
    """Single fields of `RobustifyConfig`, which says what each is."""

    strength: float
    noise: float
    tokens: int
    tolerance: float
    checks: int
    text_tokens: int
    own_tokens: int
    learning_rate: float
    warmup: float
    step_tokens: int
    block_size: int
    batch_size: int
    chat: ChatMode
    evaluation_tokens: int
    seed: int


class UnlearnSettings(TypedDict, total=False):
    """Single fields of `UnlearnConfig`, which says what each is."""

    importance: str
    score: str
    ffn_eps: str | float
    attention_eps: str | float
    ffn_fraction: float
    attention_fraction: float
    scope: Scope
    head_score: str
    veto: float
    ablation: Ablation
    compensate: Compensation
    block_steps: int
    candidates: float
    retain_weight: float
    gradient_tokens: int
    steps: int
    iterative: bool
    forget_target: float
    retain_budget: float
    perplexity_budget: float
    disruption_budget: float | None
    budget_confidence: float | None
    bisections: int
    tokens: int
    evaluation_tokens: int
    evaluation_doublings: int
    block_size: int
    batch_size: BatchSizeSetting
    max_seconds: float | None
    checkpoint_every: int | None
    packed: bool
    bos: Literal["count", "drop"]
    chat: ChatMode
    split: Split
    controls: int
    seed: int
