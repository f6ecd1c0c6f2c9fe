"""What the proposals of a method are made from, and what one proposal is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel

from hf_untangle.methods.combined_loss import Objective
from hf_untangle.methods.descent import Pace, descend
from hf_untangle.methods.writes import Permission, Written


@dataclass(frozen=True, eq=False)
class Job:
    """A method on its way: the model, what may be written, and what is minimised."""

    model: PreTrainedModel
    written: Written
    objective: Objective
    pace: Pace
    permission: Permission


@dataclass(frozen=True, eq=False)
class Proposal:
    """A change that has just been written to the model, to be judged."""

    loss: float | None = None
    """The training loss; None for an edit in closed form."""
    strength: float | None = None
    """How strong the edit is; None for a gradient step."""
    write_at_: Callable[[float], None] | None = None
    """Writes the edit at another strength; weights are interpolated where None."""


Proposals = Callable[[Job], Iterator[Proposal]]


def gradient_steps(job: Job) -> Iterator[Proposal]:
    """Propose gradient steps of the method's loss.

    Args:
        job: The method.

    Yields:
        A proposal after every step.
    """
    for loss in descend(job.model, job.written, job.objective, job.pace):
        yield Proposal(loss)


def doubled(start: float, steps: int) -> Iterator[float]:
    """Strengths of an edit, each twice the one before.

    Args:
        start: The first.
        steps: How many.

    Yields:
        start, 2 start, 4 start and so on.
    """
    yield from (start * 2**step for step in range(steps))
