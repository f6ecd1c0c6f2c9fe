"""The values of some parameters on disk: what is undone on failure, and the best step so far, at no cost in memory."""

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from hf_untangle.architecture.commit import undone_on_failure
from hf_untangle.architecture.parameters import parameter_names


@runtime_checkable
class Holder(Protocol):
    """Something with values that can be read and written."""

    def values(self) -> Tensor:
        """What it holds."""
        ...

    def write_(self, values: Tensor) -> None:
        """Hold something else."""
        ...


class Snapshot:
    """Copies of the values of some holders, bit for bit, in a temporary file that goes with this object."""

    def __init__(self, holders: Sequence[Holder]) -> None:
        """Write all values down.

        Args:
            holders: What has the values.
        """
        self.holders = holders
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the snapshot)
        weakref.finalize(self, self._file.close)
        self._like: list[tuple[torch.dtype, torch.Size]] = []
        for holder in holders:
            values = holder.values().detach()
            self._like.append((values.dtype, values.shape))
            values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tofile(self._file)
        self._file.flush()

    def values(self) -> Iterator[Tensor]:
        """Read the values one after another, never all of them at once.

        Yields:
            The values of each holder, on the CPU.
        """
        self._file.seek(0)
        for dtype, shape in self._like:
            size = shape.numel() * dtype.itemsize
            yield torch.from_numpy(np.fromfile(self._file, dtype=np.uint8, count=size)).view(dtype).view(shape)

    def restore_(self) -> None:
        """Write all values back to their holders."""
        for holder, values in zip(self.holders, self.values(), strict=True):
            holder.write_(values)

    def between_(self, other: "Snapshot", share: float) -> None:
        """Write what lies on the straight line to another snapshot of the same holders.

        Args:
            other: The end of the line; this one is its beginning.
            share: How far along, from 0 to 1.
        """
        for holder, begin, end in zip(self.holders, self.values(), other.values(), strict=True):
            holder.write_(torch.lerp(begin.float(), end.float(), share).to(begin.dtype))


class _Whole:
    """A whole parameter as a holder."""

    def __init__(self, parameter: Tensor) -> None:
        self._parameter = parameter

    def values(self) -> Tensor:
        """The parameter."""
        return self._parameter

    @torch.no_grad()
    def write_(self, values: Tensor) -> None:
        """Copy values into it."""
        self._parameter.copy_(values)


@contextmanager
def restored_on_failure(model: nn.Module) -> Iterator[Snapshot]:
    """Give a model its own weights back, bit for bit, when the body fails or is interrupted.

    Args:
        model: The model, all of whose weights are in memory.

    Yields:
        The weights as they were, in the order of `parameter_names`.
    """
    with undone_on_failure() as undo:
        own = Snapshot([_Whole(model.get_parameter(name)) for name in parameter_names(model)])
        undo.callback(own.restore_)
        yield own
