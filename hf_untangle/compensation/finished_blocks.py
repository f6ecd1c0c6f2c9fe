"""Trained blocks on disk, so that a call that was stopped continues after the last one that was finished."""

import hashlib
import json
import logging
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from hf_untangle.architecture.projections import place_of
from hf_untangle.compensation.block_training import TrainedBlock
from hf_untangle.compensation.dense_block import DenseBlock
from hf_untangle.distributed import in_main, together
from hf_untangle.errors import MaskError, OutputError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.folders import cache_folder
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.statistics.fingerprint import weights_fingerprint

logger = logging.getLogger("hf_untangle")

FORMAT = "hf_untangle.block/1"


class _BlockRecord(FileRecord):
    """What a file of a trained block says of it."""

    error: float = Field(ge=0, le=1)
    digest: str
    """A fingerprint of the error and the weights."""


class FinishedBlocks:
    """The trained blocks of one call, in our cache folder: the same weights, mask, tokens and settings find them again."""

    def __init__(self, model: nn.Module, mask: NeuronMask, **settings: Any) -> None:
        """Find the folder, which need not exist yet.

        Args:
            model: The model before anything is removed.
            mask: Which neurons stay.
            **settings: Everything else that decides what comes out, as values that JSON can hold.
        """
        content = {"weights": weights_fingerprint(model), "versions": (version("hf-untangle"), version("torch")), **settings}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
        for name, kept in mask.items():
            digest.update(name.encode() + kept.numpy().tobytes())
        self.folder = cache_folder() / "blocks" / digest.hexdigest()[:16]

    def read(self, block: DenseBlock) -> TrainedBlock | None:
        """Read a block that was finished; of several processes all do, or none.

        Args:
            block: Which block.

        Returns:
            What came of it; None where it was not finished, or its file is damaged.
        """

        def read() -> TrainedBlock | None:
            try:
                return self._read(block)
            except (MaskError, OSError) as error:
                logger.warning("A block that was trained is trained again, as its file cannot be read: %s", error)
                return None

        found = read() if self._file(block).exists() else None
        return found if all(together(lambda: found is not None)) else None

    def write(self, block: DenseBlock, trained: TrainedBlock) -> None:
        """Write a finished block; where that fails, the call continues without.

        Args:
            block: Which block.
            trained: What came of it.
        """

        def write() -> None:
            record = {"error": trained.error, "digest": _digest(trained)}
            try:
                write_tensors(self._file(block), trained.weights, kind=FORMAT, record=record)
            except OutputError as error:
                logger.warning("Blocks are trained anew if this is stopped, as they cannot be written: %s", error)

        in_main(write)

    def close(self) -> None:
        """Delete the blocks of a call that has come to its end."""

        def delete() -> None:
            with suppress(OSError):
                shutil.rmtree(self.folder, ignore_errors=True)

        in_main(delete)

    def _read(self, block: DenseBlock) -> TrainedBlock:
        """Read the weights of a block, which must be of its shapes, and as they were written."""
        what = {"kind": FORMAT, "what": "a trained block", "error": MaskError, "record": _BlockRecord}
        content = read_tensors(self._file(block), **what)
        weights: dict[str, torch.Tensor] = {}
        for name in block.projections if content.tensors else ():
            own = block.model.get_parameter(place_of(block.model, name).weight)
            weights[name] = content.take(name, tuple(own.shape), (own.dtype,))
        content.check_names(weights)
        trained = TrainedBlock(weights, content.record.error)
        if content.record.digest != _digest(trained):
            raise content.expected.fault("a block that was damaged")
        return trained

    def _file(self, block: DenseBlock) -> Path:
        """The file of one block."""
        return self.folder / f"{block.group.name}.safetensors"


def _digest(trained: TrainedBlock) -> str:
    """A fingerprint of a trained block."""
    digest = hashlib.sha256(repr(trained.error).encode())
    for name, weight in sorted(trained.weights.items()):
        digest.update(name.encode() + weight.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
