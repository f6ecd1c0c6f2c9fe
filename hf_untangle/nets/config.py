"""Every setting of a search, checked when it is made."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hf_untangle.pruning.config import checked


class NetsConfig(BaseModel):
    """The settings of a neuroevolutionary ticket search. What the published method leaves open has a default here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
            raise ValueError(f"elite must be smaller than the population, but {self.elite} of {self.population} came")
        return self


def nets_config(**settings: Any) -> NetsConfig:
    """Check the settings of a search.

    Args:
        **settings: Fields of `NetsConfig` by name.

    Returns:
        The settings.

    Raises:
        ConfigError: A name is unknown, or a value out of its range.
    """
    return checked(NetsConfig, settings)
