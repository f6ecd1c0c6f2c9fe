"""What a gradient method or an edit in closed form did to a model."""

from typing import Annotated, Any

from pydantic import Field

from hf_untangle.compensation.refit import Refit
from hf_untangle.records.base import Count, Frozen, Seconds
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


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A penalty."""
Share = Annotated[float, Field(ge=0, le=1)]
"""An error relative to a larger one."""


class RefitRecord(Frozen):
    """A refit of output projections, by which kept neurons write what removed ones did, as far as they can."""

    tokens: Count
    """What it was fitted on, the blocks included on which the ridge was chosen."""
    ridges: dict[str, Positive | None]
    """By group: the penalty relative to the mean square of its kept neurons; None where no refit was better than none."""
    errors: dict[str, Share]
    """By group: squared error of what the projection writes on blocks that were held out, relative to that without a refit."""
    seconds: Seconds
    block_errors: dict[str, Share] = {}
    """By group whose block was trained after that: squared error of what the block writes on held-out blocks, relative to that
    of the refit alone; empty where nothing was trained."""

    @classmethod
    def of(cls, refit: Refit | None) -> "RefitRecord | None":
        """Write down how a refit came about.

        Args:
            refit: The refit, if there is one.

        Returns:
            Its record, if there is one.
        """
        if refit is None:
            return None
        return cls(
            tokens=refit.tokens,
            ridges=refit.ridges,
            errors=refit.errors,
            seconds=refit.seconds,
            block_errors=refit.block_errors,
        )

    @property
    def trained(self) -> str:
        """What was trained after the refit, as the end of a sentence; nothing where nothing was."""
        if not self.block_errors:
            return ""
        better = [error for error in self.block_errors.values() if error < 1]
        said = f", which left {min(better):.0%} to {max(better):.0%} of the refit's held-out error" if better else ""
        return f", and then {len(better)} of {len(self.block_errors)} blocks were trained to write what they had written{said}"
