"""Gradient steps of an objective: each is proposed, and judged by the caller."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.data.batch_size import BatchSize, first_size, of_backward_pass
from hf_untangle.methods.combined_loss import Objective
from hf_untangle.methods.registry import Optimizer
from hf_untangle.methods.rows import order
from hf_untangle.methods.writes import Part, Written
from hf_untangle.runtime import release_unused_memory

OPTIMIZER: dict[Optimizer, Callable[..., torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
"""What takes a step."""


@dataclass(frozen=True)
class Pace:
    """How gradient steps are taken."""

    learning_rate: float
    steps: int
    rows: int
    """Rows of each corpus in a step."""
    batch_size: int
    """Rows that are run forward and back at a time; more passes make up a step."""
    max_grad_norm: float
    optimizer: Optimizer
    seed: int


SMALL_PART = 0.25
"""Share of the weights below which what is trained needs less memory than a pass forward and back."""


class NotFiniteError(ArithmeticError):
    """A loss or a gradient is infinite or NaN, so that no further step can be taken."""


def descend(model: PreTrainedModel, written: Written, objective: Objective, pace: Pace) -> Iterator[float]:
    """Take gradient steps in place.

    Dropout stays off. Weights that are not float32, or of which some entries alone may be written, are stepped in float32
    copies of these entries, so that small steps are not rounded away and nothing else is touched.

    Args:
        model: The model.
        written: What may be written.
        objective: What is minimised.
        pace: How.

    Yields:
        The loss before each step, once the step is taken.

    Raises:
        NotFiniteError: A loss or a gradient is infinite or NaN; the weights are those of the last step.
    """
    masters = [_master(part) for part in written.parts]
    optimizer = OPTIMIZER[pace.optimizer](masters, lr=pace.learning_rate, weight_decay=0.0, fused=True)
    dual = Dual(objective)
    forget = order(len(objective.forget), pace.steps, pace.rows, pace.seed)
    retain = order(len(objective.retain), pace.steps, pace.rows, pace.seed + 1)
    for gone, kept in zip(forget, retain, strict=True):
        loss, of_retain = _gradients(model, objective, dual.alpha, gone, kept, pace.batch_size)
        for master, part in zip(masters, written.parts, strict=True):
            gradient = part.gradient().float()
            master.grad = gradient if written.shape is None else written.shape(gradient)
        norm = float(nn.utils.clip_grad_norm_(masters, pace.max_grad_norm))
        if not math.isfinite(norm) or not math.isfinite(loss):
            raise NotFiniteError
        optimizer.step()
        for master, part in zip(masters, written.parts, strict=True):
            part.parameter.grad = None
            if master is not part.parameter:
                part.write_(master.detach())
        dual.update(of_retain)
        yield loss


def rows_at_a_time(model: PreTrainedModel, written: Written, objective: Objective, batch_size: BatchSize) -> int:
    """Choose how many rows are run forward and back together.

    Few where little is trained, so that a pass needs hardly more memory than one without gradients. Where most weights are,
    their gradients and moments are the larger part, and every further pass adds to all gradients, which takes time.

    Args:
        model: The model.
        written: What may be written.
        objective: What is minimised, with its rows.
        batch_size: Rows in a forward pass, or "auto".

    Returns:
        How many.
    """
    width = max(rows.blocks.width for rows in (objective.forget, objective.retain))
    trained = sum(part.values().numel() for part in written.parts)
    if trained < SMALL_PART * model.num_parameters():
        batch_size = of_backward_pass(batch_size, width)
    return first_size(batch_size, width)


def _gradients(
    model: PreTrainedModel, objective: Objective, alpha: float, gone: Tensor, kept: Tensor, batch_size: int
) -> tuple[float, float]:
    """Accumulate the gradients of one step, and give its loss and its retain loss."""
    total = of_retain = 0.0
    # What judged the last step has left as much as what follows is going to.
    release_unused_memory()
    with evaluation_mode(model), torch.enable_grad():
        for some, share in _shares(gone, objective.sizes("forget", gone), batch_size):
            loss = objective.method.gamma * share * objective.forget_loss(model, objective.forget.take(some))
            loss.backward()
            total += float(loss.detach())
        shares = _shares(kept, objective.sizes("retain", kept), batch_size) if objective.method.retain != "none" else ()
        for some, share in shares:
            loss = share * objective.retain_loss(model, objective.retain.take(some))
            (alpha * loss).backward()
            of_retain += float(loss.detach())
    release_unused_memory()
    return total + alpha * of_retain, of_retain


def _shares(rows: Tensor, sizes: Tensor, batch_size: int) -> Iterator[tuple[Tensor, float]]:
    """Parts of some rows, each with what it brings to the mean over all of them."""
    for some, own in zip(rows.split(batch_size), sizes.split(batch_size), strict=True):
        yield some, float(own.sum() / sizes.sum())


def _master(part: Part) -> nn.Parameter:
    """What the optimizer steps: the parameter itself, or a float32 copy of the entries that may be written."""
    if part.entries is None and part.parameter.dtype == torch.float32:
        return part.parameter
    return nn.Parameter(part.values().float().clone())


class Dual:
    """The weight of the retain objective, raised while retain is above its bound and lowered below it (PDU)."""

    def __init__(self, objective: Objective) -> None:
        """Begin with the weight of the method.

        Args:
            objective: What is minimized.
        """
        self.alpha = float(objective.method.alpha)
        self._step = objective.method.dual
        self._bound: float | None = None

    def update(self, of_retain: float) -> None:
        """Take a step of the dual; the bound is the first retain loss, which is the original's.

        Args:
            of_retain: The retain loss of a step.
        """
        if self._step is None:
            return
        self._bound = of_retain if self._bound is None else self._bound
        self.alpha = max(0.0, self.alpha + self._step * (of_retain - self._bound))
