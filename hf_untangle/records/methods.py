"""What a gradient method or an edit in closed form did to a model."""

from typing import Any

from hf_untangle.records.base import Frozen
from hf_untangle.records.scores import Scores


class JudgedStep(Frozen):
    """One step of a method that was judged on the validation parts."""

    number: int
    """Of the optimizer step, or of the strength of an edit, from 1."""
    scores: Scores
    loss: float | None
    """Training loss before the step; None for an edit in closed form."""
    strength: float | None
    """How strong an edit is; None for gradient steps."""
    share: float
    """Below 1 where the way from the last step inside the budget was cut."""
    seconds: float


class LearningRateTrial(Frozen):
    """A short run with one learning rate."""

    learning_rate: float
    steps: int
    """The last step that was judged."""
    best: Scores | None
    """The best step inside the budget, where there is one."""
    ended: str
    """Why it ended."""


class MethodRecord(Frozen):
    """One method of a run: what was set, tried and chosen."""

    method: str
    settings: dict[str, Any]
    """Every setting by name."""
    changed: dict[str, Any]
    """Those that were set by the caller to another value than the default."""
    learning_rate: float | None
    """Searched for, or set; None for a method without one."""
    trials: tuple[LearningRateTrial, ...]
    """The search for it; empty where it was set."""
    steps: tuple[JudgedStep, ...]
    chosen: int
    """Which of `steps` the result is, from 1."""
    ended: str
    """Why the run ended."""
    written: int
    """How many single weights could be written; those of the adapter under LoRA."""
    rows: int
    """Rows of forget, and as many of retain, that were read."""
    seconds: float
    """All of it, trials included."""
