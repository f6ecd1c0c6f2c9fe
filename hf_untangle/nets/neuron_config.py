"""Settings of a search over neurons of a language model."""

from typing import Any

from pydantic import Field

from hf_untangle.errors import ConfigError
from hf_untangle.nets.config import NetsConfig
from hf_untangle.pruning.config import checked


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


def neuron_nets_config(**settings: Any) -> NeuronNetsConfig:
    """Check the settings of a search over neurons.

    Args:
        **settings: Fields of `NeuronNetsConfig` by name.

    Returns:
        The settings.

    Raises:
        ConfigError: A name is unknown, a value out of its range, or learning is asked for without adapters.
    """
    config = checked(NeuronNetsConfig, settings)
    if config.steps and not config.rank:
        raise ConfigError(f"Learning needs an adapter, but steps={config.steps} came with rank=0. Set rank, such as 4.")
    return config
