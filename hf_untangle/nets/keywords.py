"""Types of the keywords that override single settings; written by scripts/write_settings.py."""

from typing import Literal, TypedDict


class NetsSettings(TypedDict, total=False):
    """Single fields of `NetsConfig`, which says what each is."""

    population: int
    generations: int
    steps: int
    batch_size: int
    learning_rate: float
    sparsity_weight: float
    density: float
    inheritance: Literal["baldwin", "lamarck"]
    elite: int
    tournament: int
    crossover: float
    mutation: float
    sigma: float
    shrink: float
    grow: float
    migrate_every: int
    seed: int


class NeuronNetsSettings(NetsSettings, total=False):
    """Single fields of `NeuronNetsConfig`, which says what each is."""

    population: int
    generations: int
    steps: int
    rank: int
    batch_size: int
    learning_rate: float
    sparsity_weight: float
    forget_weight: float
    density: float
    shrink: float
    grow: float
