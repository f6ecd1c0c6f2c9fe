"""A collection on disk, so that one that was killed continues where it was."""

import hashlib
import json
import logging
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.data.batch_size import Batches
from hf_untangle.data.blocks import Blocks
from hf_untangle.distributed import place
from hf_untangle.errors import OutputError, StatisticsError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.folders import cache_folder, recover
from hf_untangle.statistics.accumulators import GroupSums
from hf_untangle.statistics.fingerprint import weights_fingerprint

logger = logging.getLogger("hf_untangle")

FORMAT = "hf_untangle.collection/1"


class _Progress(FileRecord):
    """How far a collection had come."""

    done: int = Field(ge=1)
    """Blocks that were run."""
    size: int = Field(ge=1)
    """Blocks in the next batch."""
    digest: str
    """A fingerprint of both, and of the sums."""


class Checkpoint:
    """Writes the sums of one process every so many blocks, and finds those of a collection that was killed.

    What is found must be of the same weights, blocks, settings, processes and version of this package, and its first batch
    must have given the same sums, bit for bit: that tells a model under a mask, or in another dtype, from the plain one.
    """

    def __init__(self, model: PreTrainedModel, blocks: Blocks, batches: Batches, sums: GroupSums, *, every: int) -> None:
        """Find nothing and write nothing yet.

        Args:
            model: The model that runs.
            blocks: What this process reads.
            batches: How far it has come.
            sums: What it has summed up.
            every: How many blocks apart sums are written.
        """
        self._batches = batches
        self._sums = sums
        self._every = every
        self._settings = {
            "weights": weights_fingerprint(model),
            "tokens": blocks.fingerprint,
            "batch": batches.size,
            "process": place(),
            "version": version("hf-untangle"),
        }
        self._file: Path | None = None
        self._written = 0

    def after_batch(self) -> bool:
        """Look for a collection to continue with after the first batch, and write the sums when it is time.

        Returns:
            Whether sums were found, so that the walk has jumped forward.
        """
        if self._file is None:
            self._file = self._found_by(self._sums.state())
            return self._go_on(self._file)
        if self._batches.done - self._written >= self._every:
            self._write(self._file)
        return False

    def close(self) -> None:
        """Delete the sums of a collection that has come to its end."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _found_by(self, first: dict[str, Tensor]) -> Path:
        """Where the sums are, whose first batch gave these."""
        digest = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode())
        for name, tensor in sorted(first.items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        return cache_folder() / "collections" / f"{digest.hexdigest()[:16]}.safetensors"

    def _go_on(self, file: Path) -> bool:
        """Take over what was written, if anything was."""
        recover(file.parent)
        try:
            if not file.exists():
                return False
            content = read_tensors(file, kind=FORMAT, what="a collection", error=StatisticsError, record=_Progress)
            sums = self._sums.state()
            state = {name: content.take(name, tuple(one.shape), (one.dtype,)) for name, one in sums.items()}
            content.check_names(sums)
            done = content.record.done
            if content.record.digest != _digest(state, done, content.record.size) or done > self._batches.total:
                raise content.expected.fault("one that was damaged")
        except (StatisticsError, OSError) as error:
            logger.warning("A collection that was stopped cannot be read, so this one begins anew: %s", error)
            return False
        self._sums.restore(state)
        self._batches.done, self._batches.size = content.record.done, content.record.size
        self._written = self._batches.done
        logger.info("Going on after %d blocks of a collection that was stopped (%s).", self._batches.done, file)
        return True

    def _write(self, file: Path) -> None:
        """Write the sums so far; where that fails, the collection continues, and does not try again."""
        state, done, size = self._sums.state(), self._batches.done, self._batches.size
        record: dict[str, Any] = {"done": done, "size": size, "digest": _digest(state, done, size)}
        try:
            write_tensors(file, state, kind=FORMAT, record=record)
        except OutputError as error:
            logger.warning("A collection that is stopped will begin anew, as its sums cannot be written: %s", error)
            self._every = sys.maxsize
        self._written = done


def _digest(state: dict[str, Tensor], *counts: int) -> str:
    """A fingerprint of sums and of how many blocks they are of."""
    digest = hashlib.sha256(repr(counts).encode())
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
