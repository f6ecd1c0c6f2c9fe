"""Settings of a ticket search, over single weights and over the neurons of a language model."""

from typing import Literal

from pydantic import Field, model_validator

from hf_untangle.config import Config


class NetsConfig(Config):
    """The settings of a neuroevolutionary ticket search. What the published method leaves open has a default here."""

    population: int = Field(default=32, ge=2, description="Individuals.")
    generations: int = Field(default=60, ge=1, description="How often the population is judged and replaced.")
    steps: int = Field(default=15, ge=0, description="Gradient steps that an individual learns before it is judged.")
    batch_size: int = Field(default=64, ge=1, description="Examples in a gradient step.")
    learning_rate: float = Field(default=0.3, gt=0, description="Of the gradient steps.")
    sparsity_weight: float = Field(default=1.0, ge=0, description="What density 1 costs, in units of the validation loss.")
    density: float = Field(default=1.0, gt=0, le=1, description="Share of the weights that the first masks keep.")
    inheritance: Literal["baldwin", "lamarck"] = Field(
        default="baldwin", description="Whether a child gets what its parents started from, or what they have learned."
    )
    elite: int = Field(default=2, ge=1, description="Individuals that live on unchanged.")
    tournament: int = Field(default=5, ge=2, description="Contestants for the place of two parents.")
    crossover: float = Field(default=0.5, ge=0, le=1, description="Share of the genes that come from the better parent.")
    mutation: float = Field(default=0.05, ge=0, le=1, description="Share of the parameters that get noise.")
    sigma: float = Field(default=0.01, ge=0, description="Standard deviation of that noise.")
    shrink: float = Field(default=0.03, ge=0, le=1, description="Share of the kept weights that a mutation removes.")
    grow: float = Field(default=0.004, ge=0, le=1, description="Share of the removed weights that a mutation brings back.")
    migrate_every: int = Field(default=10, ge=1, description="Generations between exchanges of the elites of islands.")
    seed: int = Field(default=0, ge=0, description="For every draw.")

    @model_validator(mode="after")
    def _elite_leaves_room(self) -> "NetsConfig":
        """Refuse a population without children."""
        if self.elite >= self.population:
            raise ValueError(f"elite must be smaller than the population, got {self.elite} of {self.population}")
        return self


class NeuronNetsConfig(NetsConfig):
    """As `NetsConfig`, with defaults for masks over neurons: removals are small, and learning is off until it is asked for."""

    population: int = Field(default=16, ge=2, description="Individuals, all in one forward pass.")
    generations: int = Field(default=40, ge=1, description="How often the population is judged and replaced.")
    steps: int = Field(default=0, ge=0, description="Steps that each individual's adapter learns before it is judged.")
    rank: int = Field(default=0, ge=0, description="Rank of the adapters; learning needs at least 1.")
    batch_size: int = Field(default=4, ge=1, description="Blocks that a generation is judged on, and of a step of learning.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Of the adapters, by Adam.")
    sparsity_weight: float = Field(default=1.0, ge=0, description="What keeping every neuron costs, in nats.")
    forget_weight: float = Field(default=0.0, ge=0, description="What a nat of loss on the forget corpus earns.")
    density: float = Field(default=0.95, gt=0, le=1, description="Share of the neurons that the first masks keep.")
    shrink: float = Field(default=0.005, ge=0, le=1, description="Share of the kept neurons that a mutation removes.")
    grow: float = Field(default=0.02, ge=0, le=1, description="Share of the removed neurons that a mutation brings back.")

    @model_validator(mode="after")
    def _learning_has_an_adapter(self) -> "NeuronNetsConfig":
        """Refuse learning without adapters."""
        if self.steps and not self.rank:
            raise ValueError(f"learning needs an adapter, got steps={self.steps} with rank=0: set rank, such as 4")
        return self
