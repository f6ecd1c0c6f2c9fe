"""Which part of the residual stream stays, and how what reads it makes up for the rest: moments, a basis, a refit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.offload import input_device
from hf_untangle.compaction.residual_stream import Norm, ResidualStream
from hf_untangle.data.batch_size import BatchSize
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.blocks import Blocks
from hf_untangle.distributed import sum_, together
from hf_untangle.errors import CompactionError, StatisticsError
from hf_untangle.statistics.gram import AT_LEAST, SHARE
from hf_untangle.statistics.watched_passes import run_watched

Basis = Literal["rotation", "channels"]
"""The directions with most of the variance, or the channels as they are."""
RIDGE = 0.01
"""Penalty on a refit that departs from the bare projection, relative to the mean square of what is read."""

Directions = Float[Tensor, "channel kept"]
Readers = dict[str, Float[Tensor, "channel kept"]]
"""By norm: what turns weights that read all channels, without the scale of the norm, into those that read the kept ones."""


def choose(
    model: PreTrainedModel,
    stream: ResidualStream,
    blocks: TokenBlocks,
    basis: Basis,
    size: int,
    *,
    batch_size: BatchSize = 8,
    progress: bool = True,
) -> Directions:
    """Choose the directions of the residual stream that carry most of what its norms hand on.

    Args:
        model: The model, which is left as it was.
        stream: Its residual stream.
        blocks: The text.
        basis: Any directions, the principal components (SliceGPT, arXiv:2401.15024, with one rotation for all layers), or
            channels as they are (Minitron, arXiv:2407.14679).
        size: How many stay.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.

    Returns:
        Orthonormal columns in float64, in order of decreasing variance, or in the order of channels.
    """
    second = torch.zeros(stream.width, stream.width, device=input_device(model))

    def add(norm: Norm, states: Tensor) -> None:
        unit = _divided(states, norm)
        second.add_((unit.T @ unit).to(second.device))

    read = tuple(norm for norm in stream.norms if norm.readers)
    _watch(model, read, blocks, add, "moments of", batch_size=batch_size, progress=progress)
    sum_(second)
    moments = second.double().cpu()
    if not moments.isfinite().all():
        raise StatisticsError(
            "Hidden states must be numbers, but some are NaN or infinity. Load the model in float32 or bfloat16 (`dtype=`), "
            "and check that its weights are whole."
        )
    if basis == "channels":
        kept = moments.diagonal().topk(size).indices.sort().values
        return torch.eye(stream.width, dtype=torch.float64)[:, kept]
    return torch.linalg.eigh(moments).eigenvectors.flip(1)[:, :size]


def at_random(width: int, size: int) -> Directions:
    """Draw directions, the same every time.

    Args:
        width: Channels of the stream.
        size: How many directions.

    Returns:
        Orthonormal columns in float64.
    """
    noise = torch.randn(width, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(noise).Q


def first(width: int, size: int) -> Directions:
    """Take the first channels.

    Args:
        width: Channels of the stream.
        size: How many stay.

    Returns:
        Columns of the unit matrix in float64.
    """
    return torch.eye(width, size, dtype=torch.float64)


def bare(norms: Sequence[Norm], basis: Directions) -> Readers:
    """Say what reads the kept part as if nothing had been in the rest.

    Args:
        norms: The norms on the stream.
        basis: What stays of it.

    Returns:
        The basis times what makes up for a mean square over fewer channels, which is the larger.
    """
    return {norm.path: basis * (basis.shape[0] / basis.shape[1]) ** 0.5 for norm in norms}


def refitted(
    model: PreTrainedModel,
    stream: ResidualStream,
    blocks: TokenBlocks,
    basis: Directions,
    *,
    as_they_are: frozenset[str] = frozenset(),
    batch_size: BatchSize = 8,
    progress: bool = True,
) -> Readers:
    """Fit what reads the kept part to what it read of the whole, with the least squared error over the tokens of a text.

    Moments are those of the model as it is, for all norms in one pass, or in several where they would not fit into memory.

    Args:
        model: The model, which is left as it was.
        stream: Its residual stream.
        blocks: The text.
        basis: What stays of the stream.
        as_they_are: Norms that keep a scale of their own, which is all that is fitted of them.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.

    Returns:
        What replaces `bare`.
    """
    found = bare(stream.norms, basis)
    width, size = basis.shape
    for norms in _parted([norm for norm in stream.norms if norm.readers], width * size * 8, model):
        cross: dict[str, Tensor] = {}
        own: dict[str, Tensor] = {}

        def add(norm: Norm, states: Tensor, cross: dict[str, Tensor] = cross, own: dict[str, Tensor] = own) -> None:
            unit, kept = _divided(states, norm), _divided(states @ basis.to(states), norm)
            if norm.path not in own:
                own[norm.path], cross[norm.path] = kept.new_zeros(size, size), kept.new_zeros(width, size)
            own[norm.path].addmm_(kept.T, kept)
            cross[norm.path].addmm_(unit.T, kept)

        _watch(model, norms, blocks, add, "refit on", batch_size=batch_size, progress=progress)
        for norm in norms:
            sum_(own[norm.path])
            sum_(cross[norm.path])
            fit = _rescaled if norm.path in as_they_are else _solved
            found[norm.path] = fit(own[norm.path], cross[norm.path], found[norm.path])
    return found


def _solved(own: Tensor, cross: Tensor, prior: Directions) -> Directions:
    """Solve for readers that are the prior where nothing is known."""
    moments = own.double().cpu()
    ridge = RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=torch.float64)
    return torch.linalg.solve(moments + ridge, (cross.double().cpu() + prior @ ridge).T).T


def _rescaled(own: Tensor, cross: Tensor, prior: Directions) -> Directions:
    """Solve for a factor of each kept channel, which is 1 where nothing is known."""
    along = (prior * cross.double().cpu()).sum(0) / prior.pow(2).sum(0)
    moments = own.diagonal().double().cpu()
    ridge = RIDGE * moments.mean()
    return prior * (along + ridge) / (moments + ridge)


def _parted(norms: Sequence[Norm], bytes_of_one: int, model: PreTrainedModel) -> Iterator[tuple[Norm, ...]]:
    """Norms whose moments fit into memory beside the model, at least one at a time."""
    budget = max(AT_LEAST, int(SHARE * sum(one.numel() * one.element_size() for one in model.parameters())))
    count = max(1, budget // bytes_of_one)
    for start in range(0, len(norms), count):
        yield tuple(norms[start : start + count])


def _watch(
    model: PreTrainedModel,
    norms: Sequence[Norm],
    blocks: TokenBlocks,
    add: Callable[[Norm, Tensor], None],
    what: str,
    *,
    batch_size: BatchSize,
    progress: bool,
) -> None:
    """Show what each norm is given, at every token that counts."""

    @contextmanager
    def watch(batch: Blocks) -> Iterator[None]:
        held: list[tuple[Norm, Tensor]] = []
        with ExitStack() as hooks:
            for norm in norms:
                hook = partial(_note, norm, batch.counted.flatten(), held)
                hooks.callback(model.get_submodule(norm.path).register_forward_pre_hook(hook).remove)
            yield
        # A batch that does not fit into memory is begun again in parts, so only whole ones count.
        for norm, states in held:
            add(norm, states)

    mine = blocks.mine()
    together(lambda: run_watched(model, mine, watch, what, batch_size=batch_size, progress=progress))


def _note(norm: Norm, counted: Tensor, held: list[tuple[Norm, Tensor]], _: Any, args: tuple[Tensor, ...]) -> None:
    """Keep what a norm is given."""
    states = args[0].detach().flatten(0, -2)
    if len(states) != len(counted):
        raise CompactionError(
            f"Each token must have one place in the residual stream, but `{norm.path}` is given {len(states):,} for "
            f"{len(counted):,} tokens. Take neurons, heads or layers out instead."
        )
    held.append((norm, states[counted.to(states.device)].float()))


def _divided(states: Tensor, norm: Norm) -> Tensor:
    """What a norm gives but for its scale."""
    return states / (states.pow(2).mean(-1, keepdim=True) + norm.epsilon).sqrt()
