"""SNIP set difference: zero single weights that matter to the forget corpus and not to the other (arXiv:2402.05162)."""

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.methods.job import Job, Proposal, doubled
from hf_untangle.methods.references import predictions_of
from hf_untangle.methods.rows import Rows
from hf_untangle.methods.snapshot import Snapshot
from hf_untangle.methods.writes import Written

FIRST_SHARE = 0.0025
"""Share of the weights of a matrix that the first proposal takes for important to either corpus."""


def zeroed_set_difference(job: Job) -> Iterator[Proposal]:
    """Propose zeros where a weight is in the top q of forget and not in the top q of retain, for growing q.

    Args:
        job: The method.

    Yields:
        A proposal at every share q.
    """
    forget, retain = (connection_scores(job, rows) for rows in (job.objective.forget, job.objective.retain))
    origin = Snapshot(job.written.parts)
    write = partial(_zero_, job.written, origin, forget, retain)
    for share in doubled(FIRST_SHARE, job.pace.steps):
        if share >= 1:
            return
        write(share)
        yield Proposal(strength=share, write_at_=write)


def connection_scores(job: Job, rows: Rows) -> list[Float[Tensor, "..."]]:
    """Score single weights: the mean over rows of |w dL/dw|, L the loss of a row (SNIP, arXiv:1810.02340).

    Args:
        job: The method.
        rows: The rows.

    Returns:
        Scores of every part.
    """
    scores = [torch.zeros_like(part.values(), dtype=torch.float32) for part in job.written.parts]
    with evaluation_mode(job.model), torch.enable_grad():
        for row in range(len(rows)):
            predictions_of(job.model, rows.blocks.rows(slice(row, row + 1))).mean_loss().backward()
            for score, part in zip(scores, job.written.parts, strict=True):
                score += (part.values() * part.gradient()).abs() / len(rows)
                part.parameter.grad = None
    return scores


def set_difference(forget: Float[Tensor, "..."], retain: Float[Tensor, "..."], share: float) -> Bool[Tensor, "..."]:
    """Tell which weights of a matrix are in the top of one corpus and not of the other.

    Args:
        forget: Scores on the forget corpus.
        retain: Scores on the retain corpus.
        share: Which share of the weights is the top of either.

    Returns:
        True where a weight goes.
    """
    return _top(forget, share) & ~_top(retain, share)


def _top(scores: Tensor, share: float) -> Tensor:
    """Which scores are among the largest."""
    found = torch.zeros_like(scores, dtype=torch.bool).flatten()
    found[scores.flatten().topk(max(1, int(share * scores.numel()))).indices] = True
    return found.view(scores.shape)


def _zero_(written: Written, origin: Snapshot, forget: list[Tensor], retain: list[Tensor], share: float) -> None:
    """Write the original weights without those that go at some share."""
    for part, own, gone, kept in zip(written.parts, origin.values(), forget, retain, strict=True):
        part.write_(own.masked_fill(set_difference(gone, kept, share).cpu(), 0))
