"""Records of an attack: forget-set accuracy recovered, per model."""

from typing import Any, Literal, get_args

from hf_untangle.configs.attack import Attack
from hf_untangle.records.base import Frozen, Metrics, Seconds

Who = Literal["unlearned", "original", "random mask", "random update", "gold"]
"""The role of an attacked model: the result, or what it is compared with."""
WHO: tuple[Who, ...] = get_args(Who)
CONTROLS: tuple[Who, ...] = ("random mask", "random update")
"""The original, changed by as much as the result and aimed at nothing: of a pruned result, and of one that was trained."""
SAME_CODE = 0.5
"""Share of its accuracy on retain that the original must keep with another model's states, or they are in another code."""


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
    """Of the samples, the training and the control."""
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


class PathPoint(Frozen):
    """A model on the straight line from the original weights to the unlearned ones."""

    share: float
    """How much of the way, from 0 (the original) to 1 (the unlearned model)."""
    forget: Metrics
    retain: Metrics


class WeightSpace(Frozen):
    """Where unlearning has moved the weights."""

    relative_distance: float
    """||W_u - W_0|| / ||W_0|| over all weights, in the Euclidean norm."""
    changed: float
    """Share of the weights that differ at all."""
    effective_rank: float
    """Of the update of an output projection: the exponential of the entropy of its energies; a mean by energy."""
    width: int
    """The largest rank that such an update can have."""
    energy_of_top: float
    """Share of the energy (squared singular values) of such an update that its largest singular values hold."""
    top: int
    """How many those are."""
    path: tuple[PathPoint, ...]
    """The models on the straight line, both ends among them."""


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
    weight_space: WeightSpace | None = None
    """How the weights of the unlearned model differ from the original's; None where that was not looked at."""
    device: str
    date: str
    """Day on which they ran, as YYYY-MM-DD."""
    seconds: Seconds
