"""One run of a method: changes are proposed and judged until the budget is used up, and the best of them inside it stays."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import StatisticsError
from hf_untangle.methods.descent import NotFiniteError
from hf_untangle.methods.job import Proposal
from hf_untangle.methods.snapshot import Snapshot
from hf_untangle.methods.writes import Written
from hf_untangle.progress import Bar, change, lost, plan_work
from hf_untangle.pruning.budget import is_inside
from hf_untangle.records.scores import Scores

logger = logging.getLogger("hf_untangle")


@dataclass(frozen=True, eq=False)
class Referee:
    """What a trial is judged by."""

    base: Scores
    """Of the original model."""
    config: UnlearnConfig
    """The budgets, and how often the last step is cut in half."""
    judge: Callable[[], Scores]
    """Measures the model as it is now."""
    tokens: int = 0
    """Of both corpora that it reads for that."""

    def is_inside(self, scores: Scores) -> bool:
        """Tell whether all budgets are kept.

        Args:
            scores: Of the model as it is now.

        Returns:
            True when they are.
        """
        return is_inside(scores, self.base, self.config)


@dataclass(frozen=True, eq=False)
class Judged:
    """A proposal that was judged."""

    number: int
    """Of the proposal, from 1."""
    scores: Scores
    inside: bool
    loss: float | None
    strength: float | None
    share: float
    """Below 1 where the way from the last step inside was cut, as all of it would have broken the budget."""
    seconds: float


@dataclass(frozen=True, eq=False)
class Trial:
    """What came of a run of a method."""

    judged: tuple[Judged, ...]
    best: Judged | None
    """The step of the largest selectivity inside the budget; None where there is none."""
    weights: Snapshot | None
    """What was written at the best step."""
    ended: str
    """Why the run ended, in a few words."""

    def selectivity(self, base: Scores) -> float:
        """The selectivity of the best step; minus infinity where there is none.

        Args:
            base: Scores of the original model.

        Returns:
            At most 1.
        """
        return float("-inf") if self.best is None else self.best.scores.selectivity(base)


class _Run:
    """A trial on its way: the last step inside the budget, and the best."""

    def __init__(self, written: Written, referee: Referee) -> None:
        self.written, self.referee = written, referee
        self.judged: list[Judged] = []
        self.best: Judged | None = None
        self.best_weights: Snapshot | None = None
        self.inside = Snapshot(written.parts)
        self.inside_strength = 0.0
        self._clock = time.perf_counter()

    def judge(self, number: int, proposal: Proposal, share: float = 1.0, strength: float | None = None) -> Judged:
        """Measure the model as it is now."""
        scores = self.referee.judge()
        now = time.perf_counter()
        strength = proposal.strength if strength is None else strength
        judged = Judged(number, scores, self.referee.is_inside(scores), proposal.loss, strength, share, now - self._clock)
        self._clock = now
        return judged

    def keep(self, judged: Judged) -> None:
        """Note a step that is inside, and its weights where it is the best so far."""
        self.judged.append(judged)
        if not judged.inside:
            return
        self.inside = Snapshot(self.written.parts)
        self.inside_strength = judged.strength or 0.0
        base = self.referee.base
        if self.best is None or judged.scores.selectivity(base) > self.best.scores.selectivity(base):
            self.best, self.best_weights = judged, self.inside

    def bisect(self, beyond: Judged, proposal: Proposal) -> None:
        """Find the part of the way from the last step inside to one beyond the budget that fits."""
        outside = Snapshot(self.written.parts)
        start, begin = self.inside, self.inside_strength
        plan_work({"forward": self.referee.config.bisections * self.referee.tokens})
        low, high = 0.0, 1.0
        for _ in range(self.referee.config.bisections):
            share = (low + high) / 2
            strength = None
            if proposal.write_at_ is not None and proposal.strength is not None:
                strength = begin + share * (proposal.strength - begin)
                proposal.write_at_(strength)
            else:
                start.between_(outside, share)
            middle = self.judge(beyond.number, proposal, share, strength)
            if middle.inside:
                low = share
                self.keep(middle)
            else:
                high = share
        if not low:
            self.judged.append(beyond)


def run_trial(
    written: Written,
    proposals: Iterator[Proposal],
    referee: Referee,
    *,
    every: int,
    steps: int,
    bar: Bar,
) -> Trial:
    """Judge proposals until the budget or the forget target is reached; the weights are then those of the last judgement.

    Args:
        written: What the method writes.
        proposals: Writes its changes, one after another.
        referee: Judges them.
        every: Every so many proposals are judged.
        steps: The number of the last proposal, which is judged in any case.
        bar: Shows how far the run is.

    Returns:
        The judged steps, and the best of them with its weights.
    """
    run, ended, number = _Run(written, referee), "all steps were taken", 0
    try:
        for number, proposal in enumerate(proposals, 1):
            bar.update()
            if number % every and number < steps:
                continue
            judged = run.judge(number, proposal)
            _show(bar, judged, referee.base)
            if not judged.inside:
                run.bisect(judged, proposal)
                ended = "the budget is used up"
                break
            run.keep(judged)
            if judged.scores.forget_drop(referee.base) >= referee.config.forget_target:
                ended = "the forget target is reached"
                break
    except (NotFiniteError, StatisticsError):
        ended = f"the loss was not finite at step {number + 1}"
        logger.warning(
            "The loss was not finite at step %d, so the run ends at the best step inside the budget. A lower learning_rate "
            "goes further.",
            number + 1,
        )
    return Trial(tuple(run.judged), run.best, run.best_weights, ended)


def _show(bar: Bar, judged: Judged, base: Scores) -> None:
    """Show what was lost so far."""
    scores = judged.scores
    shown = [f"forget {change(scores.forget_drop(base))}", f"retain {change(scores.retain_drop(base))}"]
    if scores.disruption is not None:
        shown.append(f"KL {scores.disruption:.4f}")
    bar.say(", ".join(shown))
    lost(forget=scores.forget_drop(base), retain=scores.retain_drop(base))
