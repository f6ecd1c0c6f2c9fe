"""A collection on disk, so that one that was killed goes on where it was."""

import hashlib
import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.data.batch_size import Batches
from hf_untangle.data.blocks import Blocks
from hf_untangle.distributed import place
from hf_untangle.errors import StatisticsError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.folders import cache_folder
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
        """Look for a collection to go on with after the first batch, and write the sums when it is time.

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
            self._file.unlink(missing_ok=True)

    def _found_by(self, first: dict[str, Tensor]) -> Path:
        """Where the sums are, whose first batch gave these."""
        digest = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode())
        for name, tensor in sorted(first.items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        return cache_folder() / "collections" / f"{digest.hexdigest()[:16]}.safetensors"

    def _go_on(self, file: Path) -> bool:
        """Take over what was written, if anything was."""
        if not file.exists():
            return False
        try:
            content = read_tensors(file, kind=FORMAT, what="a collection", error=StatisticsError, record=_Progress)
            sums = self._sums.state()
            state = {name: content.take(name, tuple(one.shape), (one.dtype,)) for name, one in sums.items()}
            content.check_names(sums)
        except StatisticsError as error:
            logger.warning("A collection that was stopped cannot be read, so this one begins anew: %s", error)
            return False
        self._sums.restore(state)
        self._batches.done, self._batches.size = content.record.done, content.record.size
        self._written = self._batches.done
        logger.info("Going on after %d blocks of a collection that was stopped (%s).", self._batches.done, file)
        return True

    def _write(self, file: Path) -> None:
        """Write the sums so far."""
        record: dict[str, Any] = {"done": self._batches.done, "size": self._batches.size}
        write_tensors(file, self._sums.state(), kind=FORMAT, record=record)
        self._written = self._batches.done
