"""A saved result as something to try: the original model, and the masks of all steps over it."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import ConfigError, MaskError
from hf_untangle.evaluation.generation import continuations
from hf_untangle.folders import MARKER
from hf_untangle.masks.ablation import Constants, mean_ablation
from hf_untangle.masks.apply import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.mask_path import MASK_PATH, load_mask_path
from hf_untangle.records.read import read_run_record
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.statistics.activations import ActivationStatistics


@dataclass(frozen=True, eq=False)
class Strengths:
    """The original model with every strength at which it can be masked: 0 is the original, n is step n of the run."""

    original: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    masks: tuple[NeuronMask, ...]
    """One a step, weakest first."""
    record: UnlearnRecord
    constants: Constants | None = None
    """What masked-out neurons read; zero when None."""

    def compare(self, strength: int, prompt: str, new_tokens: int) -> tuple[str, str]:
        """Continue a prompt by the original model and by the masked one, greedily.

        Args:
            strength: 0 for the original, or the number of a step.
            prompt: The text to continue.
            new_tokens: Where to stop.

        Returns:
            Both continuations, that of the original first.

        Raises:
            ConfigError: The prompt is empty.
        """
        if not prompt.strip():
            raise ConfigError("The prompt must have some text to continue from, but it is empty. Type a few words.")
        before = self._continue(prompt, new_tokens)
        mask = masked(self.original, self.masks[strength - 1], constants=self.constants) if strength else nullcontext()
        with mask:
            return before, self._continue(prompt, new_tokens)

    def record_at(self, strength: int) -> UnlearnRecord:
        """The record of the run as if another of its steps had been chosen.

        Args:
            strength: The number of a step; at 0 no neuron is counted as removed.

        Returns:
            A record whose counts of neurons, and whose chosen step, are those of the strength.
        """
        groups = tuple(
            group.model_copy(update={"removed": int((~self.masks[strength - 1][group.name]).sum()) if strength else 0})
            for group in self.record.groups
        )
        history = self.record.history.model_copy(update={"chosen": max(strength, 1)})
        return self.record.model_copy(update={"groups": groups, "history": history})

    def _continue(self, prompt: str, new_tokens: int) -> str:
        """Continue a prompt by the model as it is now."""
        return continuations(self.original, self.tokenizer, [prompt], max_new_tokens=new_tokens)[0]


def open_strengths(folder: str | Path, *, original: str | None = None, device_map: str | None = None) -> Strengths:
    """Open what `unlearn` saved, and load the original model that its masks belong to.

    Args:
        folder: The folder of a result.
        original: The original model; the one in the result's record when None.
        device_map: As in `from_pretrained`.

    Returns:
        The model with the masks of all steps.

    Raises:
        MaskError: The folder is not the result of unlearning, or its masks belong to another model.
        ArchitectureError: The original model cannot be loaded.
    """
    folder = Path(folder)
    if not (folder / MASK_PATH).is_file() or not (folder / MARKER).is_file():
        raise MaskError(
            f"The result must be a folder from `unlearn`, with {MARKER} and {MASK_PATH}, but `{folder}` does not contain them. "
            "Pass the folder that was its output."
        )
    record = read_run_record(folder, UnlearnRecord)
    masks, constants = load_mask_path(folder / MASK_PATH), _constants(folder, record)
    model, tokenizer = models.load(
        original or models.loadable_name(record.model, record.revision), dtype=record.dtype, device_map=device_map
    )
    masks[-1].check_fits(neuron_groups(model), str(model.name_or_path))
    return Strengths(model, tokenizer, masks, record, constants)


def _constants(folder: Path, record: UnlearnRecord) -> Constants | None:
    """What removed neurons of the run read."""
    if record.config.ablation == "mode":
        raise MaskError(
            "A run with ablation=mode cannot be shown, as its result does not hold the modes of its neurons. Open "
            f"report.html in `{folder}`, or run it again with ablation=mean or ablation=zero."
        )
    if record.config.ablation == "zero":
        return None
    return mean_ablation(ActivationStatistics.load(folder / "statistics-retain.safetensors"))
