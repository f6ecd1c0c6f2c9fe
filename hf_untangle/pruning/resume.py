"""Steps of a run on disk, so that a run that was stopped continues where it was."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.distributed import in_main
from hf_untangle.errors import MaskError, OutputError, UntangleError
from hf_untangle.files.json_text import LIMIT, parse_json
from hf_untangle.files.records import checked_record
from hf_untangle.files.regular import Expected, read_bytes, read_text
from hf_untangle.files.tensors import BYTES
from hf_untangle.folders import cache_folder, whole_file
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.records.provenance import versions
from hf_untangle.records.unlearning import Step
from hf_untangle.statistics.fingerprint import weights_fingerprint

logger = logging.getLogger("hf_untangle")


class Journal:
    """A folder with one record and one mask for every finished step."""

    def __init__(self, folder: Path) -> None:
        """Open a folder, which need not exist yet.

        Args:
            folder: Where steps are written.
        """
        self.folder = folder

    @classmethod
    def of_run(cls, model: PreTrainedModel, **settings: Any) -> "Journal":
        """Find the journal of a run: the same weights, settings, tokens and versions give the same folder.

        A step of another version of this package, or of torch, does not belong to this run: its masks and numbers may differ.

        Args:
            model: The model before the run.
            **settings: Everything else that decides what the run does, as values that JSON can hold.

        Returns:
            The journal, in our cache folder.
        """
        content = json.dumps({"weights": weights_fingerprint(model), "versions": versions(), **settings}, sort_keys=True)
        return cls(cache_folder() / "runs" / hashlib.sha256(content.encode()).hexdigest()[:16])

    def write(self, step: Step, mask: NeuronMask) -> None:
        """Write a finished step; its record comes last, so that a step without one never counts.

        A journal is a convenience: where it cannot be written, the run continues without one.

        Args:
            step: The step.
            mask: What it removes.
        """

        def write() -> None:
            try:
                mask.save(self._mask(step.number))
                record = step.model_dump_json()
                with whole_file(self._record(step.number)) as draft:
                    digest = _digest(record, self._mask(step.number).read_bytes())
                    draft.write_text(f"{digest}\n{record}", encoding="utf-8")
            except (OutputError, OSError) as error:
                logger.warning("A run that is stopped now would begin anew, as its journal cannot be written: %s", error)

        in_main(write)

    def read(self, groups: tuple[NeuronGroup, ...] | None = None) -> list[tuple[Step, NeuronMask]]:
        """Read the finished steps, in order, up to one that is damaged.

        Args:
            groups: The neuron groups of the model; not compared with those of the masks when None.

        Returns:
            Each step with its mask.
        """
        finished: list[tuple[Step, NeuronMask]] = []
        try:
            while self._record(len(finished) + 1).exists():
                finished.append(self._read(len(finished) + 1, groups))
        except (UntangleError, OSError) as error:
            logger.warning("A run that was stopped continues after step %d, as the next is damaged: %s", len(finished), error)
        return finished

    def _read(self, number: int, groups: tuple[NeuronGroup, ...] | None) -> tuple[Step, NeuronMask]:
        """Read one step, which must be as it was written, to the last bit, and of this model."""
        expected = Expected(self._record(number), f"step {number} of a run", MaskError)
        digest, _, record = read_text(expected, LIMIT).partition("\n")
        mask = read_bytes(Expected(self._mask(number), f"the mask of step {number}", MaskError), BYTES)
        if digest != _digest(record, mask):
            raise expected.fault("a step that was damaged, or whose mask was")
        step = checked_record(parse_json(record.encode(), expected), Step, expected)
        kept = NeuronMask.load(self._mask(number))
        if groups is not None:
            kept.check_fits(groups, kept.model)
        return step, kept

    def close(self) -> None:
        """Delete the journal of a run that has come to its end."""
        in_main(lambda: shutil.rmtree(self.folder, ignore_errors=True))

    def _record(self, number: int) -> Path:
        """The file of a step's record."""
        return self.folder / f"step-{number:03}.json"

    def _mask(self, number: int) -> Path:
        """The file of a step's mask."""
        return self.folder / f"step-{number:03}.safetensors"


def _digest(record: str, mask: bytes) -> str:
    """The fingerprint of a step and its mask."""
    return hashlib.sha256(record.encode() + mask).hexdigest()
