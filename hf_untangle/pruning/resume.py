"""Steps of a run on disk, so that a run that was stopped goes on where it was."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_untangle.distributed import in_main
from hf_untangle.folders import cache_folder, whole_file
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.records.provenance import versions
from hf_untangle.records.unlearning import Step
from hf_untangle.statistics.fingerprint import weights_fingerprint


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

        A step of another version of this package, or of torch, is none of this run's: its masks and numbers may differ.

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

        Args:
            step: The step.
            mask: What it removes.
        """

        def write() -> None:
            mask.save(self._mask(step.number))
            with whole_file(self._record(step.number)) as draft:
                draft.write_text(step.model_dump_json())

        in_main(write)

    def read(self) -> list[tuple[Step, NeuronMask]]:
        """Read the finished steps, in order."""
        finished = []
        while (record := self._record(len(finished) + 1)).exists():
            step = Step.model_validate_json(record.read_text())
            finished.append((step, NeuronMask.load(self._mask(step.number))))
        return finished

    def close(self) -> None:
        """Delete the journal of a run that has come to its end."""
        in_main(lambda: shutil.rmtree(self.folder, ignore_errors=True))

    def _record(self, number: int) -> Path:
        """The file of a step's record."""
        return self.folder / f"step-{number:03}.json"

    def _mask(self, number: int) -> Path:
        """The file of a step's mask."""
        return self.folder / f"step-{number:03}.safetensors"
