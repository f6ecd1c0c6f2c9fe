"""Records of an attack: forget-set accuracy recovered, per model."""

from typing import Any, Literal, get_args

from hf_untangle.configs.attack import Attack
from hf_untangle.records.base import Frozen, Metrics, Seconds

Who = Literal["unlearned", "original", "random mask", "gold"]
"""The role of an attacked model: the result, or what it is compared with."""
WHO: tuple[Who, ...] = get_args(Who)


class Reading(Frozen):
    """How well one model did after one dose of an attack."""

    model: Who
    condition: str
    """The dose in words: `NF4`, `20 steps`, `4 examples`, `layer 12`."""
    at: float
    """Where it stands on the axis of its attack: steps, examples, layers, or its place among the conditions."""
    forget: Metrics
    """On held-out text of the forget corpus, or of its neighbor."""
    retain: Metrics | None = None
    """On held-out text of the retain corpus, where it was measured."""
    seed: int = 0
    """Of the samples, the training and the random mask."""
    setting: str = ""
    """How the attack was set where several settings were tried, of which the worst counts: `lora, 0.001, warm-up 10%`."""


class AttackOutcome(Frozen):
    """One attack: what was measured, what was found, and whether it came to its end."""

    attack: Attack
    readings: tuple[Reading, ...]
    findings: tuple[str, ...]
    """What accuracies do not say, in sentences."""
    seconds: Seconds
    stopped: bool
    """Whether the time limit ended it before all that was planned was measured."""
    error: str | None
    """What went wrong, where something did; what was measured before stands."""


class AttackRecord(Frozen):
    """All attacks of one call, beside the same models without any."""

    settings: dict[str, Any]
    """Every setting, by name."""
    original: str
    """The model before unlearning, whose own gain under the same attack is the yardstick."""
    gold: str | None
    """A model that never learnt the forget corpus, where one was given."""
    corpus: dict[str, Any]
    """The held-out blocks of the forget corpus that all but the neighbor is measured on."""
    base: tuple[Reading, ...]
    """Every model as it is."""
    outcomes: tuple[AttackOutcome, ...]
    device: str
    date: str
    """Day on which they ran, as YYYY-MM-DD."""
    seconds: Seconds
