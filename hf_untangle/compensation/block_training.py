"""Training one block without some of its neurons to write what it wrote with all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_untangle.architecture.parameters import read_parameter
from hf_untangle.architecture.projections import place_of
from hf_untangle.compensation.dense_block import BlockCall, DenseBlock
from hf_untangle.compensation.narrow_block import Stays, narrowed
from hf_untangle.distributed import sum_
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.progress import Bar

CHECKS = 10
"""How often the error on held-out calls is looked at; the weights of the least one are taken."""
WARMUP = 0.1
"""Share of the steps in which the learning rate rises."""


@dataclass(frozen=True)
class BlockSettings:
    """How a block is trained."""

    steps: int
    """Steps of Adam, each on one batch of calls."""
    learning_rate: float
    """The largest one, relative to the root mean square of each weight matrix."""
    seed: int
    """For the order of the batches."""


@dataclass(frozen=True, eq=False)
class TrainedBlock:
    """The outcome of one block."""

    weights: dict[str, Tensor]
    """By projection: the weight as its parameter has it, on the CPU; what belongs to removed neurons is as it was. Empty where
    no step was better than the start."""
    error: float
    """Squared error on held-out calls, relative to that at the start; 1 where no step was better."""


@torch.enable_grad()
def train_block(
    block: DenseBlock,
    pruned: nn.Module,
    mask: NeuronMask,
    train: Sequence[BlockCall],
    held_out: Sequence[BlockCall],
    settings: BlockSettings,
    bar: Bar,
) -> TrainedBlock:
    """Train what is kept of a block on what it wrote with all of its neurons.

    The loss is the squared error over the tokens that count. Of several processes each takes a batch of its own in every step,
    and all of them take the same step.

    Args:
        block: The block.
        pruned: A copy of it to be trained, see `DenseBlock.pruned`; a narrower one is trained where it can be.
        mask: Which neurons stay.
        train: What went into the block, and came out of it.
        held_out: The same of other text, by which the best step is chosen.
        settings: How to train.
        bar: Counts steps.

    Returns:
        The weights of the best step.
    """
    zeros = block.zeros(mask)
    pruned, stays = narrowed(pruned, zeros, train)
    trained = {name: pruned.get_parameter(inside) for name, inside in block.projections.items()}
    device = next(iter(trained.values())).device
    optimizer = torch.optim.Adam(_groups(trained, settings.learning_rate), eps=1e-12)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, settings.steps))
    order = torch.Generator().manual_seed(settings.seed)
    scale = _total([call.energy() for call in train], device)
    start = least = _error(pruned, held_out, device)
    best: dict[str, Tensor] = {}
    queue: list[int] = []
    for step in range(1, settings.steps + 1):
        optimizer.zero_grad()
        if train:
            queue = queue or torch.randperm(len(train), generator=order).tolist()
            (train[queue.pop()].on(device).missed(pruned) / max(scale, 1e-30)).backward()
        for name, parameter in trained.items():
            _settle_gradient_(parameter, [] if stays else zeros.get(block.projections[name], []))
        optimizer.step()
        schedule.step()
        bar.update(1)
        if step % max(1, settings.steps // CHECKS) == 0 and (error := _error(pruned, held_out, device)) < least:
            least, best = error, {name: parameter.detach().to("cpu", copy=True) for name, parameter in trained.items()}
    weights = {name: _in_model(block, name, values, zeros, stays) for name, values in best.items()}
    return TrainedBlock(weights, least / start if best else 1.0)


def _groups(trained: dict[str, nn.Parameter], rate: float) -> list[dict[str, Any]]:
    """The parameters, each with a learning rate of its own scale."""
    return [{"params": [one], "lr": rate * float(one.detach().square().mean().sqrt())} for one in trained.values()]


def _share(step: int, steps: int) -> float:
    """The learning rate of a step, relative to the largest: it rises, and falls as a cosine."""
    rising = max(1.0, WARMUP * steps)
    return min((step + 1) / rising, 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps)))


def _settle_gradient_(parameter: nn.Parameter, removed: Sequence[Any]) -> None:
    """Add the gradients of all processes up, and take those of removed neurons away."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    sum_(parameter.grad)
    for index in removed:
        parameter.grad[index] = 0


@torch.no_grad()
def _error(pruned: nn.Module, calls: Sequence[BlockCall], device: torch.device) -> float:
    """The squared error on some calls of every process."""
    return _total([call.on(device).missed(pruned) for call in calls], device)


def _total(parts: Sequence[Tensor], device: torch.device) -> float:
    """The sum over all processes."""
    total = torch.zeros((), device=device)
    for part in parts:
        total += part.to(device)
    sum_(total)
    return total.item()


def _in_model(block: DenseBlock, name: str, values: Tensor, zeros: dict[str, list[Any]], stays: Stays) -> Tensor:
    """Trained weights as the model has them, with its own where neurons were removed."""
    own = read_parameter(block.model, place_of(block.model, name).weight).detach().cpu()
    inside = block.projections[name]
    if inside in stays:
        dim, kept = stays[inside]
        return own.index_copy(dim, kept, values.to(own.dtype))
    weight = values.to(own.dtype)
    for index in zeros.get(inside, []):
        weight[index] = own[index]
    return weight
