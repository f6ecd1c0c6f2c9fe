"""ActSVD set difference: project out output directions of forget that retain does not use (arXiv:2402.05162)."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode, uncached
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.projections import input_axis
from hf_untangle.methods.job import Job, Proposal
from hf_untangle.methods.rows import Rows, counted_tokens
from hf_untangle.methods.snapshot import Snapshot

RETAIN_ENERGY = 0.95
"""Share of the squared outputs on the retain corpus that lies in the directions that are spared."""

Directions = list[tuple[Float[Tensor, "_ _"], Float[Tensor, "_ _"]]]
"""For each matrix: directions of forget, the strongest first, and those of retain that are spared."""


def projected_out(job: Job) -> Iterator[Proposal]:
    """Propose W - (I - V_r V_r') V_f V_f' W, with the r strongest output directions of forget in V_f, for growing r.

    Args:
        job: The method.

    Yields:
        A proposal at 1, 2, 4 and so on directions.
    """
    names = [part.name.rpartition(".")[0] for part in job.written.parts]
    forget, retain = (
        output_moments(job.model, names, rows, job.pace.batch_size) for rows in (job.objective.forget, job.objective.retain)
    )
    directions = [(_strongest(forget[name]), _spared(retain[name])) for name in names]
    origin = Snapshot(job.written.parts)
    write = partial(_project_, job, origin, directions)
    rank, largest = 1, max(len(gone) for gone, _ in directions)
    for _ in range(job.pace.steps):
        write(rank)
        yield Proposal(strength=float(rank), write_at_=write)
        if rank >= largest:
            return
        rank *= 2


@torch.no_grad()
def output_moments(model: PreTrainedModel, names: list[str], rows: Rows, batch_size: int) -> dict[str, Float[Tensor, "_ _"]]:
    """Sum the outer products of what some projections write, over the counted tokens.

    Args:
        model: The model.
        names: The projections.
        rows: The rows.
        batch_size: Rows in a forward pass.

    Returns:
        One Gram matrix per projection, in float64.
    """
    moments: dict[str, Tensor] = {}
    with ExitStack() as stack, evaluation_mode(model):
        counted: list[Tensor] = []

        def add(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
            outputs = output.reshape(*counted[-1].shape, -1)[counted[-1]].double()
            moments[name] = moments.get(name, 0) + outputs.T @ outputs

        for name in names:
            stack.callback(model.get_submodule(name).register_forward_hook(partial(add, name)).remove)
        for at in range(0, len(rows), batch_size):
            batch = rows.blocks.rows(slice(at, at + batch_size))
            counted.append(counted_tokens(batch).to(model.device))
            model(**batch.inputs(input_device(model)), **uncached(model))
    return moments


def _strongest(moment: Float[Tensor, "output output"]) -> Float[Tensor, "output output"]:
    """Eigenvectors of a Gram matrix, the largest eigenvalue first."""
    return torch.linalg.eigh(moment).eigenvectors.flip(-1).float()


def _spared(moment: Float[Tensor, "output output"]) -> Float[Tensor, "output kept"]:
    """The fewest directions that hold RETAIN_ENERGY."""
    values, vectors = torch.linalg.eigh(moment)
    energy = values.flip(-1).clamp(min=0).cumsum(-1)
    count = int((energy < RETAIN_ENERGY * energy[-1]).sum()) + 1
    return vectors.flip(-1)[:, :count].float()


def _project_(job: Job, origin: Snapshot, directions: Directions, rank: int | float) -> None:
    """Write the original weights without what lies in the directions that go."""
    for part, own, (gone, spared) in zip(job.written.parts, origin.values(), directions, strict=True):
        module = job.model.get_submodule(part.name.rpartition(".")[0])
        transposed = input_axis(module) == 0
        weight = (own.T if transposed else own).to(gone)
        some = gone[:, : max(1, round(rank))]
        change = some @ (some.T @ weight)
        change -= spared @ (spared.T @ change)
        part.write_((weight - change).T if transposed else weight - change)
