"""Task arithmetic: subtract what fine-tuning on the forget corpus adds (arXiv:2212.04089)."""

from collections.abc import Iterator
from dataclasses import replace

from hf_untangle.methods.descent import descend
from hf_untangle.methods.job import Job, Proposal, doubled
from hf_untangle.methods.snapshot import Snapshot

TUNING_STEPS = 16
"""Gradient steps of the fine-tuning."""
FIRST_STRENGTH = 0.25


def minus_task_vector(job: Job) -> Iterator[Proposal]:
    """Propose W - a (W_tuned - W) for growing a.

    Args:
        job: The method; its learning rate is that of the fine-tuning.

    Yields:
        A proposal at every strength a.
    """
    origin = Snapshot(job.written.parts)
    # Fine-tuning minimises the loss that GradDiff maximises, so its objective is GradDiff's with the sign turned.
    tuning = replace(job.objective, method=replace(job.objective.method, forget="ascent", gamma=-1.0))
    pace = replace(job.pace, steps=min(TUNING_STEPS, job.pace.steps))
    loss = None
    for step_loss in descend(job.model, job.written, tuning, pace):
        loss = step_loss
    tuned = Snapshot(job.written.parts)
    for strength in doubled(FIRST_STRENGTH, job.pace.steps):
        origin.between_(tuned, -strength)
        yield Proposal(loss, strength)
