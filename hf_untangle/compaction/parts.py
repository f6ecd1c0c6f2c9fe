"""Which part of a parameter a tensor of a checkpoint is: all of it, or what transformers puts together when it loads a model.

Checkpoints hold the experts of a mixture one by one, gate and up projection each, where models hold all of them in one
parameter of shape [expert, output, input]. Other ways to put tensors together are not understood, and matter only where they
change.
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter, WeightRenaming, rename_source_key

from hf_untangle.architecture.meta_models import Shapes
from hf_untangle.compaction.edits import Edit
from hf_untangle.masks.removal import Index


@dataclass(frozen=True)
class Part:
    """Where the numbers of one tensor go."""

    parameter: str
    """Name of the parameter in the model."""
    shape: tuple[int, ...]
    """Shape of the tensor."""
    expert: int | None = None
    """Its place on the first axis of the parameter; None for a tensor that is the whole parameter."""
    first_row: int = 0
    """Where its rows begin among those of the expert."""

    def edit(self, whole: Edit) -> Edit:
        """Say what becomes of this tensor.

        Args:
            whole: What becomes of the parameter.

        Returns:
            The same in the tensor's own numbers.
        """
        if self.expert is None:
            return whole
        zeros = [index for one in whole.zeros if (index := self._zeros(one)) is not None]
        return Edit(zeros, [(axis - 1, self._stays(axis, index)) for axis, index in whole.stays])

    def _zeros(self, index: Index) -> Index | None:
        """The entries of an index that lie in this tensor; None where there are none."""
        experts, *rest = index
        here = experts == self.expert
        own = [one[here] if isinstance(one, Tensor) else one for one in rest]
        if isinstance(own[0], Tensor):
            inside = (own[0] >= self.first_row) & (own[0] < self.first_row + self.shape[0])
            own = [one[inside] if isinstance(one, Tensor) else one for one in own]
            own[0] = own[0] - self.first_row
        return tuple(own) if all(len(one) for one in own if isinstance(one, Tensor)) else None

    def _stays(self, axis: int, index: Tensor) -> Tensor:
        """What stays on an axis of this tensor."""
        own = index if index.ndim == 1 else index[self.expert]
        if axis != 1:
            return own
        return own[(own >= self.first_row) & (own < self.first_row + self.shape[0])] - self.first_row


def part_of(name: str, changes: list[Any], prefix: str, shapes: Shapes) -> Part | None:
    """Find what a tensor of a checkpoint is loaded into.

    Args:
        name: Its name there.
        changes: The renamings and conversions of its model's class.
        prefix: How the class calls the model below its head.
        shapes: Of all parameters and buffers of the model.

    Returns:
        The part; with a parameter that the model does not have where there is no such; None where tensors are put together in a
        way that is not understood.
    """
    renamings = [change for change in changes if isinstance(change, WeightRenaming)]
    converters = [change for change in changes if isinstance(change, WeightConverter)]
    renamed, pattern = rename_source_key(name, renamings, converters, prefix, dict(shapes))
    if renamed not in shapes and name in shapes:
        renamed, pattern = name, None
    if pattern is None or renamed not in shapes:
        return Part(renamed, shapes.get(renamed, ()))
    converter = next(one for one in converters if pattern in one.source_patterns)
    return _part_of_experts(name, renamed, pattern, converter, shapes[renamed])


def _part_of_experts(
    name: str, parameter: str, pattern: str, converter: WeightConverter, shape: tuple[int, ...]
) -> Part | None:
    """The part of one expert, where a parameter is made of experts, and each of those of equal parts one below another."""
    match converter.operations:
        case [MergeModulelist(dim=0)]:
            position, count = 0, 1
        case [MergeModulelist(dim=0), Concatenate(dim=1)]:
            position, count = converter.source_patterns.index(pattern), len(converter.source_patterns)
        case _:
            return None
    number = re.search(pattern.replace("*", r"(\d+)"), name)
    if number is None or shape[1] % count:
        return None
    rows = shape[1] // count
    return Part(parameter, (rows, *shape[2:]), int(number.group(1)), position * rows)
