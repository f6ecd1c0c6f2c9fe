"""Every setting of an unlearning run, checked when it is made."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hf_untangle.architecture.neurons import KINDS, Kind
from hf_untangle.arguments import checked_calls
from hf_untangle.compensation.reconstruct import STEPS
from hf_untangle.compensation.refit import Compensation, with_ablation
from hf_untangle.config import BatchSizeSetting, Config, known
from hf_untangle.data.documents import ChatMode
from hf_untangle.data.two_corpora import Split
from hf_untangle.importance.registry import IMPORTANCE, needs_of, parts
from hf_untangle.importance.scores import SCORES, Epsilon
from hf_untangle.masks.ablation import Ablation
from hf_untangle.masks.select import HEAD_SCORE, Scope


@checked_calls
class UnlearnConfig(Config):
    """The settings of selective pruning. Fractions and drops are shares, from 0 to 1.

    The defaults are those that won on the validation parts of `benchmarks/selectivity.py`; `PRESETS["paper"]` follows
    arXiv:2403.01267 step by step.
    """

    importance: str = Field(
        default="rms",
        description="How much a neuron matters to one corpus; several joined by `+` are fused by rank. Try others where little "
        "can be forgotten inside the budget.",
    )
    score: str = Field(
        default="ratio",
        description="How forget and retain importance are compared. `difference` favors large neurons, `ratio` selective ones.",
    )
    ffn_eps: str | float = Field(
        default="10%",
        description="Added to the retain importance of FFN neurons: a number, or a share of its mean. Raise it where neurons "
        "that do almost nothing are selected.",
    )
    attention_eps: str | float = Field(default="10%", description="The same for attention neurons.")
    ffn_fraction: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of all FFN neurons to remove in a step. Lower it after a BudgetError; 0 leaves FFN blocks alone.",
    )
    attention_fraction: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of all attention neurons to remove in a step. Lower it after a BudgetError; 0 leaves it alone.",
    )
    scope: Scope = Field(
        default="global",
        description="What competes for removal: all neurons of a kind, a layer's, or whole heads. `head` is for serving "
        "without the removed heads.",
    )
    head_score: str = Field(default="mean", description="With scope=head, how neurons' scores make the score of their head.")
    veto: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of each group's neurons that are spared as the top of retain. Raise it, to 0.05 say, where single "
        "neurons cost much of retain.",
    )
    ablation: Ablation = Field(
        default="zero",
        description="What a removed neuron reads: zero, its mean on retain, or its mode, held in a bias at the end. A mean "
        "costs retain less where neurons are far from zero, but no adapter can hold it.",
    )
    compensate: Compensation = Field(
        default="none",
        description="What makes up for removed neurons at the end: nothing, their mean, or new output weights for kept ones, "
        "fitted on retain alone (`least-squares`), or a training of each block after that (`block`). Set it where retain must "
        "be as it was; forget may come back in part.",
    )
    block_steps: int = Field(
        default=STEPS, ge=1, description="With compensate=block, steps of training per block. Raise it with more tokens."
    )
    candidates: float = Field(
        default=4.0,
        ge=1,
        description="Candidates for each neuron to remove, ranked by predicted loss; 1 goes by score alone and needs no "
        "gradients, which saves memory.",
    )
    retain_weight: float = Field(
        default=60.0,
        ge=0,
        description="Weight of the predicted retain-loss increase relative to that of the forget loss when ranking candidates. "
        "Raise it to spare retain, lower it to forget more per step.",
    )
    gradient_tokens: int = Field(
        default=6_000,
        ge=1,
        description="Retain tokens that a step takes gradients on, others in each; half as many forget tokens are used. "
        "Lower it to save time.",
    )
    steps: int = Field(
        default=6, ge=1, description="Steps at the most. Raise it where the last step was still inside the budget."
    )
    iterative: bool = Field(
        default=True,
        description="Collect statistics again on the pruned model before every step. False is faster and less selective.",
    )
    forget_target: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Stop once this relative drop of forget top-1 is reached. Set it where less forgetting is enough.",
    )
    retain_budget: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Relative drop of retain top-1 that is allowed. The first setting to choose: what may the run cost?",
    )
    perplexity_budget: float = Field(
        default=3.0,
        ge=1,
        allow_inf_nan=True,
        description="Factor by which retain perplexity may grow. Lower it where the probabilities of text matter too.",
    )
    disruption_budget: float | None = Field(
        default=None,
        gt=0,
        description="Mean KL(original || model) that is allowed on retain, in nats per token; pruning alone has none, "
        "`auto` 0.1, others 0.01. Set it to compare methods at equal disruption; with retain_budget=1 it judges alone.",
    )
    budget_confidence: float | None = Field(
        default=None,
        ge=0.5,
        lt=1,
        description="Probability with which text of the retain corpus keeps the budgets, such as 0.95; none for a budget in "
        "expectation, which the mean over held-out text keeps. Set it where a budget must not be broken.",
    )
    bisections: int = Field(
        default=3,
        ge=0,
        description="Times that a step which breaks the budget is halved, to find the part of it that fits. Raise it after a "
        "BudgetError.",
    )
    tokens: int = Field(
        default=16_384,
        ge=1,
        description="Tokens of each corpus that are read: statistics of the original are collected on all of them, "
        "gradients of a step on some. Raise it where two runs on other rows disagree.",
    )
    evaluation_tokens: int = Field(
        default=6_144,
        ge=1,
        description="Held-out tokens of each corpus that a step is judged on. Raise it for narrower intervals.",
    )
    evaluation_doublings: int = Field(
        default=2,
        ge=0,
        le=2,
        description="How often pruning may double the retain tokens of a judgement whose interval has the budget in it. 0 is "
        "faster; raise it where the budget must be met closely.",
    )
    block_size: int = Field(
        default=256, ge=2, description="Tokens in a block. Raise it for long rows, which are cut into several blocks."
    )
    batch_size: BatchSizeSetting = Field(
        default=8, description="Blocks in a forward pass; `auto` halves them when memory runs out."
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Seconds that statistics of one corpus may take each time; the blocks read until then count.",
    )
    checkpoint_every: int | None = Field(
        default=None, ge=1, description="Write statistics down every so many blocks, to continue from after the run was killed."
    )
    packed: bool = Field(
        default=True,
        description="Pack documents into full blocks; otherwise one padded document per block. Set False where documents must "
        "not see each other.",
    )
    bos: Literal["count", "drop"] = Field(
        default="count",
        description="Whether statistics count the BOS position. `drop` it where its activations dwarf all others.",
    )
    chat: ChatMode = Field(
        default="auto",
        description="Write rows by the model's chat template: where there is one (auto), always, or never.",
    )
    split: Split = Field(
        default="parts",
        description="Part the forget corpus into train, validation and test; with `all`, each part has all of its rows, to "
        "forget exactly these.",
    )
    controls: int = Field(
        default=1,
        ge=0,
        description="Random masks of equal size that the result is compared with on validation text, and at least three on "
        "test text. Raise it for a spread, 0 saves time.",
    )
    seed: int = Field(default=0, description="For the random masks. Change it to see how far results vary.")

    @model_validator(mode="before")
    @classmethod
    def _mean_is_an_ablation(cls, values: Any) -> Any:
        """Take compensation by the mean for what it is."""
        return with_ablation(values)

    @field_validator("importance")
    @classmethod
    def _known_importances(cls, value: str) -> str:
        """Refuse an importance that does not exist, also among several."""
        names = [known(name, IMPORTANCE) for name in parts(value)]
        if "second moments" in needs_of("+".join(names)):
            raise ValueError(
                f"importance must compare two corpora, got {value!r}, which `prune` takes: it refits on one corpus"
            )
        return "+".join(names)

    @field_validator("score", "head_score")
    @classmethod
    def _known(cls, value: str, info: Any) -> str:
        """Refuse a choice that does not exist, and offer the nearest."""
        return known(value, {"score": SCORES, "head_score": HEAD_SCORE}[info.field_name])

    @field_validator("ffn_eps", "attention_eps", mode="before")
    @classmethod
    def _readable_eps(cls, value: str | float) -> str:
        """Refuse an epsilon that cannot be read."""
        Epsilon.parse(value)
        return str(value)

    def fractions(self, times: float = 1.0) -> dict[Kind, float]:
        """The share of each kind that goes in one step.

        Args:
            times: A multiple of it.

        Returns:
            Shares of the original width, at most 1.
        """
        return {"ffn": min(1.0, times * self.ffn_fraction), "attention": min(1.0, times * self.attention_fraction)}

    def eps(self) -> dict[Kind, Epsilon]:
        """The epsilon of each kind."""
        return dict(zip(KINDS, (Epsilon.parse(self.ffn_eps), Epsilon.parse(self.attention_eps)), strict=True))

    @model_validator(mode="after")
    def _removes_something(self) -> "UnlearnConfig":
        """Refuse settings by which no neuron would go."""
        if not self.ffn_fraction and not self.attention_fraction:
            raise ValueError("ffn_fraction or attention_fraction must be above 0, got 0 for both: nothing would be removed")
        return self

    @classmethod
    def presets(cls) -> "Mapping[str, UnlearnConfig]":
        """Settings by name.

        Returns:
            `default`; `quick`, for a first look at what a run will do; `paper`, which is arXiv:2403.01267 to the letter.
        """
        return PRESETS


PRESETS: dict[str, UnlearnConfig] = {
    "default": UnlearnConfig(),
    "quick": UnlearnConfig(steps=2, tokens=2_048, gradient_tokens=2_048, evaluation_tokens=1_024, evaluation_doublings=0),
    "paper": UnlearnConfig(
        importance="abs",
        candidates=1.0,
        ffn_eps="0.001",
        attention_eps="0.0001",
        ffn_fraction=0.02,
        attention_fraction=0.005,
        steps=50,
        retain_budget=1.0,
        perplexity_budget=float("inf"),
        bisections=0,
        tokens=100_000,
        evaluation_tokens=100_000,
        block_size=1000,
        packed=False,
    ),
}
"""Settings by name."""
