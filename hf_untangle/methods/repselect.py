"""RepSelect: one forget gradient, taken on a model that an adapter taught the corpus, without its largest components.

Representations that other text uses too are the large singular directions of such a gradient (arXiv:2606.17168).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.methods.filtering import collapsed
from hf_untangle.methods.job import Job, Proposal, doubled
from hf_untangle.methods.references import predictions_of
from hf_untangle.methods.snapshot import Snapshot
from hf_untangle.methods.writes import Permission, Written, writable

ADAPTER_RATE = 0.01
"""Learning rate of the adapter, by plain gradient descent."""
FIRST_UPDATE = 1e-3
"""Size of the first update relative to the weights."""


def filtered_gradient(job: Job) -> Iterator[Proposal]:
    """Propose W - s G' for growing s, with G' the filtered gradient of the negative forget loss.

    Args:
        job: The method.

    Yields:
        A proposal at every strength s.
    """
    with _adapted(job) as parts:
        _learn(job, parts)
        gradients = _ascent_gradients(job)
    filtered = [collapsed(one, components=job.permission.components) for one in gradients]
    del gradients
    parts = job.written.parts
    weights = float(torch.stack([part.values().float().norm() for part in parts]).norm())
    change = float(torch.stack([one.float().norm() for one in filtered]).norm())
    origin = Snapshot(parts)
    for strength in doubled(FIRST_UPDATE * weights / max(change, 1e-30), job.pace.steps):
        _subtract_(job.written, origin, filtered, strength)
        yield Proposal(strength=strength, write_at_=partial(_subtract_, job.written, origin, filtered))


@contextmanager
def _adapted(job: Job) -> Iterator[Written]:
    """Put an adapter on the model, and take it away again without a trace in the weights."""
    flags = [part.parameter.requires_grad for part in job.written.parts]
    permission = Permission(
        job.permission.groups, job.permission.held, modules=_modules(job), rank=job.permission.rank, seed=job.permission.seed
    )
    with writable(job.model, "lora", permission) as adapter:
        yield adapter
    for part, flag in zip(job.written.parts, flags, strict=True):
        part.parameter.requires_grad_(flag)


def _modules(job: Job) -> tuple[str, ...]:
    """The modules whose weights the method writes."""
    return tuple(part.name.rpartition(".")[0] for part in job.written.parts)


def _learn(job: Job, adapter: Written) -> None:
    """Have the adapter learn the forget rows, once through, by plain descent on their loss."""
    for loss in _losses(job.model, job):
        gradients = torch.autograd.grad(loss, [part.parameter for part in adapter.parts])
        for part, gradient in zip(adapter.parts, gradients, strict=True):
            part.write_(part.parameter.detach() - ADAPTER_RATE * gradient)


def _ascent_gradients(job: Job) -> list[Tensor]:
    """Sum the gradients of the negative forget loss over all passes, at the weights below the adapter."""
    parameters = [part.parameter for part in job.written.parts]
    for parameter in parameters:
        parameter.requires_grad_(True)
    sums: list[Any] = [0] * len(parameters)
    for loss in _losses(job.model, job):
        sums = [total + one for total, one in zip(sums, torch.autograd.grad(-loss, parameters), strict=True)]
    return [one if part.entries is None else one * part.entries for one, part in zip(sums, job.written.parts, strict=True)]


def _losses(model: PreTrainedModel, job: Job) -> Iterator[Tensor]:
    """The forget loss per token of every pass, with a graph."""
    rows, size = job.objective.forget.blocks, job.pace.batch_size
    with evaluation_mode(model), torch.enable_grad():
        for at in range(0, len(rows.input_ids), size):
            yield predictions_of(model, rows.rows(slice(at, at + size))).mean_loss()


def _subtract_(written: Written, origin: Snapshot, gradients: list[Tensor], strength: float) -> None:
    """Write the original weights less a multiple of some gradients."""
    for part, own, gradient in zip(written.parts, origin.values(), gradients, strict=True):
        step = gradient if part.entries is None else gradient[part.entries]
        part.write_((own.float() - strength * step.cpu().float()).to(own.dtype))
