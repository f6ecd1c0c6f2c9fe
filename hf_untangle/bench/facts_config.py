"""Every setting of the benchmark of facts, checked when it is made."""

from collections.abc import Mapping

from pydantic import Field, field_validator

from hf_untangle.config import Config
from hf_untangle.data.facts.invented import Facts, invented_facts
from hf_untangle.methods.choose import method_names


class FactsBenchConfig(Config):
    """The settings of the benchmark of facts."""

    seed: int = Field(default=0, description="For the facts, the trainings, and the random mask.")
    forget: int = Field(default=12, ge=1, description="Invented people, places and works to forget, five questions each.")
    retain: int = Field(default=48, ge=1, description="Others to keep, which unlearning is told of.")
    neighbors: int = Field(default=12, ge=1, description="Others to keep, which it is not told of.")
    unseen: int = Field(default=12, ge=1, description="Others that no model is trained on.")
    epochs: int = Field(default=8, ge=1, description="Times that the original and the gold model read their facts.")
    learning_rate: float = Field(default=3e-4, gt=0, description="The largest learning rate of these trainings.")
    batch_size: int = Field(default=16, ge=1, description="Questions in a step of these trainings.")
    methods: tuple[str, ...] = Field(
        default=("prune", "npo", "simnpo", "graddiff", "rmu", "repselect", "prune+npo"),
        min_length=1,
        description="What unlearns: methods by name, several joined by `+` one after another.",
    )
    steps: int = Field(default=48, ge=1, description="Optimizer steps of a gradient method, and of training on retain alone.")
    step_rows: int = Field(default=8, ge=1, description="Questions of each corpus in such a step.")
    retain_budget: float = Field(default=0.05, ge=0, le=1, description="Relative drop of retain top-1 that is allowed.")
    disruption_budget: float = Field(
        default=0.1, gt=0, description="Mean KL(original || model) that is allowed on retain, in nats per token."
    )
    prune_fraction: float = Field(
        default=0.01, gt=0, le=1, description="Share of the FFN and of the attention neurons that a step of pruning removes."
    )
    judged_tokens: int = Field(default=6_144, ge=1, description="Tokens of each corpus that a step is judged on.")
    questions: int = Field(default=60, ge=1, description="Questions of each kept set that are measured, at the most.")
    prompts: int = Field(default=30, ge=1, description="Questions of each set that are answered by writing, for ROUGE.")
    relearning_steps: int = Field(
        default=24, ge=0, description="Steps of training on half of the forgotten entities; 0 leaves it out."
    )
    relearning_rate: float = Field(default=1e-4, gt=0, description="Learning rate of that training.")

    @field_validator("methods")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse methods that do not exist."""
        for name in value:
            method_names(name.split("+"))
        return value

    def facts(self) -> Facts:
        """The facts that everything is measured on."""
        sizes = {"retain": self.retain, "neighbors": self.neighbors, "unseen": self.unseen}
        return invented_facts(self.seed, forget=self.forget, **sizes)

    @classmethod
    def presets(cls) -> "Mapping[str, FactsBenchConfig]":
        """Settings by name.

        Returns:
            `default`, and `quick`, meant for half an hour of SmolLM2 on two cores.
        """
        return {"default": cls(), "quick": QUICK}


QUICK = FactsBenchConfig(
    forget=6,
    retain=24,
    neighbors=6,
    unseen=6,
    epochs=5,
    batch_size=8,
    methods=("auto", "graddiff", "prune", "prune+graddiff"),
    steps=16,
    judged_tokens=1_200,
    questions=15,
    prompts=6,
    relearning_steps=8,
)
"""Settings meant for half an hour of SmolLM2 on two cores."""
