"""What all results have in common: one life, from the changed weights to a folder or the Hub and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Unpack

from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.by_name import ModelName, opened
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.saving import bytes_of, gathered, save_model
from hf_untangle.compaction.target_widths import Layout
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.data.images import Processor
from hf_untangle.display import short_repr
from hf_untangle.distributed import in_main
from hf_untangle.errors import ConfigError, MaskError
from hf_untangle.folders import MARKER, changed_folder, check_replaceable, temporary_folder, whole_folder
from hf_untangle.hub.cards import license_of
from hf_untangle.hub.download import PullOptions
from hf_untangle.hub.upload import REMOVED, PushOptions, push_folder
from hf_untangle.masks.mask import FILE, NeuronMask
from hf_untangle.masks.undo_removal import RemovedWeights, put_back_
from hf_untangle.records.saved import read_removed, result_folder
from hf_untangle.records.shareable import shareable
from hf_untangle.reporting.first_screen import result_html, result_table, result_text
from hf_untangle.statistics.fingerprint import weights_fingerprint

Own = TypeVar("Own", bound="Result")


@checked_calls
@dataclass(eq=False, kw_only=True, repr=False)
class Result:
    """A changed model, and the record of everything that was done to it and measured.

    The record belongs to the weights: whatever a method of the result does to them stands in it at once, and a model whose
    weights were changed in another way is not saved with it.
    """

    model: PreTrainedModel
    """The model, its neurons removed."""
    tokenizer: PreTrainedTokenizerBase | Processor
    """What makes its inputs; for an image classifier a function of a list of images."""
    mask: NeuronMask
    """Which neurons of the original model stayed."""
    record: Any
    """Every setting and every number: a `RunRecord` of the function that made the result."""
    removed: RemovedWeights | None = None
    """What was removed, where `keep_removed=True` kept it: `restore` puts it back."""
    __repr__ = short_repr

    def describe(self) -> str:
        """Describe the outcome of the run.

        Returns:
            What fell and what stayed, what was removed, and what was done since, a line each; a summary, and the table as text.
        """
        return result_text(self.record)

    def table(self) -> Table:
        """Lay the results on the test parts out for a terminal (print it with `rich.print`) or a notebook.

        Returns:
            The original, the changed model and its controls.
        """
        return result_table(self.record)

    def _repr_html_(self) -> str:
        """The first screen of the report, for a notebook."""
        return result_html(self.record)

    @classmethod
    def from_pretrained(
        cls: type[Own],
        source: str | Path,
        *,
        corpora: Mapping[str, CorpusSource] | None = None,
        dtype: str = "checkpoint",
        device_map: str | None = None,
        trust_remote_code: bool = False,
        **options: Unpack[PullOptions],
    ) -> Own:
        """Read a result back, with its test parts read anew.

        Args:
            source: `user/name` on the Hub, or the folder that `save_pretrained` wrote.
            corpora: The corpora of the run by their use (`forget`, `retain`, or `data` of a compression), which must be
                passed again only where they cannot be found by their name.
            dtype: The dtype of the weights; the checkpoint's own by default, in another one the result cannot be saved.
            device_map: As in `from_pretrained` of transformers.
            trust_remote_code: Whether code in the checkpoint may run.
            **options: `revision`, `token`, `cache_dir` and `local_files_only`, as in `PullOptions`.

        Returns:
            The result.

        Raises:
            ConfigError: There is no such result, or it was made by another function.
            CorpusError: A corpus must be passed, or its test part is not the one that the run was measured on.
            HubError: The Hub has no such repository or revision, or cannot be asked.
        """
        folder = result_folder(source, **options)
        loading = {"dtype": dtype, "device_map": device_map, "trust_remote_code": trust_remote_code}
        return cls._read(folder, corpora or {}, loading)

    @classmethod
    def _read(cls: type[Own], folder: Path, corpora: Mapping[str, CorpusSource], loading: dict[str, Any]) -> Own:
        """Read what `_write` wrote."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> Path:
        """Write an ordinary checkpoint, with the mask, the statistics, the record, a report and a model card beside it.

        Plain `from_pretrained` of transformers loads it, in a process without this package. Where the removed weights were
        kept they are written too, as `removed.safetensors`: do not give that file away with the model.

        Args:
            folder: Where to write. A folder that this package wrote is replaced once the new one is complete; any other that is
                not empty is refused.
            license: The license of the original model, for the card.

        Returns:
            The folder.

        Raises:
            ConfigError: The weights are not those that the record speaks of.
            OutputError: The folder is not ours to replace, or cannot be written; what was there is untouched.
        """
        self.check_weights()
        in_main(lambda: check_replaceable(folder, needs=bytes_of(self.model)))
        weights = gathered(self.model)
        in_main(lambda: self._save(folder, license, weights))
        return Path(folder)

    def _save(self, folder: str | Path, license: str | None, weights: dict[str, Tensor] | None) -> None:
        """Write everything into a draft that takes the folder's place once it is complete."""
        with whole_folder(folder) as draft:
            self._write(draft, license, weights)
            if self.removed is not None:
                self.removed.save(draft / REMOVED)

    def push_to_hub(self, repo_id: str, *, license: str | None = None, **options: Unpack[PushOptions]) -> str:
        """Push what `save_pretrained` writes, but never the removed weights.

        Args:
            repo_id: `user/name` on the Hub; made when there is none.
            license: The license of the original model; the Hub is asked for it when None.
            **options: `private`, `token`, `revision`, `commit_message` and `create_pr`, as in `PushOptions`.

        Returns:
            The address of the commit.

        Raises:
            ConfigError: The weights are not those that the record speaks of.
            HubError: The Hub refuses, or cannot be reached; the message says what to do.
        """
        self.check_weights()
        with temporary_folder() as folder:
            self._write(folder, license or self._ask_license(options.get("token")), gathered(self.model))
            return push_folder(folder, repo_id, **options)

    def check_weights(self) -> None:
        """Refuse a model whose weights are not those that the record speaks of.

        Raises:
            ConfigError: They were changed since, by something that the record does not know of.
        """
        if self.record.weights is not None and weights_fingerprint(self.model) != self.record.weights:
            raise ConfigError(
                "The weights of the model must be those that its record speaks of, but they were changed since, so the card "
                "would tell of another model. Undo the change, repeat it by a method of the result such as `repair`, or save "
                "the model alone with `result.model.save_pretrained`."
            )

    def compact(self, *, layout: Layout = "ragged", round_to: int | None = None) -> PreTrainedModel:
        """Take the removed neurons out of the tensors, see `hf_untangle.compact`.

        Args:
            layout: `ragged`, where every layer is as narrow as it can be, or `uniform`, which loads without this package.
            round_to: FFN widths are rounded up to a multiple of this.

        Returns:
            A smaller model with the same logits; `model` stays as it is.
        """
        return compact(self.model, self.mask, layout=layout, round_to=round_to)

    def restore(self) -> PreTrainedModel:
        """Give the model its removed weights back, bit for bit.

        Returns:
            The model, in place, as it was before the run. The result cannot be saved any more.

        Raises:
            MaskError: The removed weights were not kept, or the model is not as the removal left it; nothing is changed then.
        """
        return restore(self.model, self)

    def to_adapter(self, folder: str | Path) -> Path:
        """Write the mask as a stock peft adapter of the original model, which hides what this result has removed.

        Args:
            folder: Where to write, as in `NeuronMask.to_adapter`.

        Returns:
            The folder.

        Raises:
            MaskError: The model is more than masked: it was repaired, or removed neurons read another value than zero.
        """
        if self.record.repairs:
            raise MaskError(
                "An adapter can only silence neurons, but this model was repaired after its neurons were removed, and its "
                "numbers would not be those of the adapter. Share the checkpoint, or the mask of a run without repair."
            )
        self.mask.to_adapter(folder)
        return Path(folder)

    def save_report(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write the record, the page and the card alone, instead of those that are there.

        Args:
            folder: The folder that this result was saved in, whose weights stay as they are.
            license: The license of the original model, for the card.

        Raises:
            OutputError: The folder cannot be written, or holds a file of another's that would be replaced; nothing is, then.
        """

        def write() -> None:
            with changed_folder(folder) as draft:
                self._write_told(draft, license)

        in_main(write)

    def _write(self, folder: Path, license: str | None, weights: dict[str, Tensor] | None) -> None:
        """Write everything but the removed weights."""
        save_model(self.model, folder, weights)
        if isinstance(self.tokenizer, PreTrainedTokenizerBase):
            self.tokenizer.save_pretrained(folder)
        self.mask.save(folder / FILE)
        self._write_statistics(folder)
        self._write_told(folder, license)

    def _write_told(self, folder: Path, license: str | None) -> None:
        """Write the record, and all that is made of it."""
        self._write_report(folder, license)
        (folder / MARKER).write_text(shareable(self.record).model_dump_json(indent=2) + "\n", encoding="utf-8")

    def _write_statistics(self, folder: Path) -> None:
        """Write what the neurons were chosen by."""
        raise NotImplementedError

    def _write_report(self, folder: Path, license: str | None) -> None:
        """Write the page, its figures and the card."""
        raise NotImplementedError

    def _ask_license(self, token: str | None) -> str | None:
        """The license of the original model, as its package or the Hub has it."""
        return models.license_of_embedded(self.record.model) or license_of(self.record.model, self.record.revision, token)

    def _update(self, **changes: Any) -> None:
        """Write down what happened."""
        self.record = self.record.model_copy(update=changes)

    def _weights_changed(self, **changes: Any) -> None:
        """Write down what happened to the weights; attacks and metrics of the weights before no longer hold."""
        forgotten = {name: () for name in ("attacks", "metrics") if name in type(self.record).model_fields}
        self._update(weights=weights_fingerprint(self.model), **forgotten, **changes)


@checked_arguments
def restore(model: PreTrainedModel | ModelName, result: Result | str | Path) -> PreTrainedModel:
    """Give a model exactly the weights back that a run removed from it.

    Args:
        model: The model whose neurons were removed, or its checkpoint loaded again in the same dtype; changed in place. All of
            it is checked first: a model that was trained since is refused, as its original cannot come back. A name or path is
            loaded.
        result: The result of `unlearn` or `prune` with `keep_removed=True`, or the folder that it was saved in.

    Returns:
        The same model, bit for bit as it was before the run.

    Raises:
        MaskError: The removed weights were not kept, or the model is not as the removal left it; nothing is changed then.
    """
    model = opened(model)
    removed = result.removed if isinstance(result, Result) else read_removed(Path(result))
    if removed is None:
        raise MaskError(
            "The removed weights must have been kept to be restored, but this result has none. Call "
            "`unlearn(..., keep_removed=True)` next time, and load the original model now."
        )
    put_back_(model, removed)
    return model
