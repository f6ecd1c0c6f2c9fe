"""What an unlearning run leaves: a model, with everything that was measured, to save, push, shrink, repair or undo."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack, cast

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.attacks.run import attack
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.saving import bytes_of, gathered, save_model
from hf_untangle.compaction.target_widths import Layout
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.data.images import ImageClasses, Processor
from hf_untangle.distributed import in_main
from hf_untangle.errors import ConfigError, MaskError
from hf_untangle.evaluation.evaluate import check_metrics
from hf_untangle.evaluation.score_cache import EvaluationConfig
from hf_untangle.folders import MARKER, changed_folder, check_replaceable, recover, temporary_folder, whole_folder
from hf_untangle.hub.cards import license_of
from hf_untangle.hub.upload import REMOVED, PushOptions, push_folder
from hf_untangle.masks.mask import FILE, NeuronMask
from hf_untangle.masks.mask_path import MASK_PATH, save_mask_path
from hf_untangle.masks.removed_weights import RemovedWeights, put_back_
from hf_untangle.pruning.extra_metrics import ask
from hf_untangle.pruning.scoring import Pair
from hf_untangle.records.unlearning import History, UnlearnRecord
from hf_untangle.repairs.repair import repair_measured
from hf_untangle.reporting.adapter_path import write_adapter_path
from hf_untangle.reporting.report import write_report
from hf_untangle.statistics.activations import ActivationStatistics


@dataclass(frozen=True, eq=False)
class UnlearnResult:
    """A model that has unlearned, with everything that was measured on the way."""

    model: PreTrainedModel
    """The model that was passed in, its neurons removed."""
    tokenizer: PreTrainedTokenizerBase | Processor
    """What makes its inputs; for an image classifier a function of a list of images."""
    mask: NeuronMask
    """Which neurons stayed."""
    mask_path: tuple[NeuronMask, ...]
    """The mask of every step, weakest first."""
    record: UnlearnRecord
    """Every setting and every number."""
    forget: ActivationStatistics
    """Statistics of the original model on the forget corpus."""
    retain: ActivationStatistics
    """The same on the retain corpus."""
    held_out: Pair
    """The test parts of both corpora."""
    removed: RemovedWeights | None = None
    """What was removed, where `unlearn(..., keep_removed=True)` kept it: `restore` puts it back."""

    @property
    def history(self) -> History:
        """The steps, judged on the validation parts."""
        return self.record.history

    def compact(self, *, layout: Layout = "ragged", round_to: int | None = None) -> PreTrainedModel:
        """Take the removed neurons out of the tensors, see `hf_untangle.compact`.

        Args:
            layout: `ragged`, where every layer is as narrow as it can be, or `uniform`, which loads without this package.
            round_to: FFN widths are rounded up to a multiple of this.

        Returns:
            A smaller model with the same logits; `model` stays as it is.
        """
        return compact(self.model, self.mask, layout=layout, round_to=round_to)

    def repair(
        self,
        retain: CorpusSource | None = None,
        *,
        original: PreTrainedModel | str | None = None,
        config: RepairConfig | str = "default",
        progress: bool = True,
        **settings: object,
    ) -> "UnlearnResult":
        """Train the model on the retain corpus alone, in place, while removed neurons are held at exactly zero.

        Args:
            retain: The corpus to train on, its train part alone; the run's own when None.
            original: The model before unlearning, or its name, which `distill` needs; the run's own name when None.
            config: Settings, or the name of a preset.
            progress: Whether to show progress bars.
            **settings: Fields of `RepairConfig` that override `config`, such as `method="full"`, `steps` or `distill`.

        Returns:
            The result with the repair in its record, measured on the test parts that the run was measured on. An error or an
            interruption before it is there leaves the model as it was.

        Raises:
            ConfigError: The model is no causal language model, or a setting is unknown or out of its range.
        """
        corpus = self.held_out.retain.corpus if retain is None else retain
        if self.record.task != "next token" or isinstance(corpus, ImageClasses):
            raise ConfigError(f"Repair trains a causal language model, but this one predicts a {self.record.task}.")
        repaired = repair_measured(
            self.model,
            self.mask,
            self.held_out,
            corpus,
            RepairConfig.resolve(config, **settings),
            tokenizer=cast(PreTrainedTokenizerBase, self.tokenizer),
            original=self.record.model if original is None else original,
            progress=progress,
        )
        # Attacks were on the model as it was before: what the repaired one gives away has to be seen anew.
        update = {"repairs": (*self.record.repairs, repaired), "attacks": ()}
        return replace(self, record=self.record.model_copy(update=update))

    def attack(
        self,
        *,
        original: PreTrainedModel | str | None = None,
        gold: PreTrainedModel | str | None = None,
        neighbor: CorpusSource | None = None,
        config: AttackConfig | str = "default",
        progress: bool = True,
        **settings: object,
    ) -> "UnlearnResult":
        """Try to get back what was forgotten, in copies of the model, and keep the outcome in the record, for card and page.

        Args:
            original: The model before unlearning, or its name; the run's own name when None.
            gold: A model that never learnt the forget corpus, or its name, where there is one.
            neighbor: A corpus near to the forget corpus; one that is known to be near when None.
            config: Settings, or the name of a preset: `default`, or `quick`, which fits ten minutes for SmolLM2 on two cores.
            progress: Whether to show progress bars.
            **settings: Fields of `AttackConfig`, such as `attacks=["relearn"]` or `max_seconds`.

        Returns:
            The result with the attacks in its record; `hf_untangle.attack` gives a report alone.

        Raises:
            ConfigError: A setting is unknown or out of its range, the model is no causal language model, or the original is
                not the one that the result was made from.
        """
        what = {"config": config, "original": original, "gold": gold, "neighbor": neighbor}
        report = attack(self, **what, progress=progress, **settings)  # type: ignore[arg-type]
        return replace(self, record=self.record.model_copy(update={"attacks": (*self.record.attacks, report.record)}))

    def evaluate(
        self,
        metrics: Sequence[str],
        *,
        original: PreTrainedModel | str | None = None,
        config: EvaluationConfig | str = "default",
        progress: bool = True,
        **settings: object,
    ) -> "UnlearnResult":
        """Measure more of both corpora, on their test parts, for the record, the page and the card.

        Args:
            metrics: Names that `hf_untangle.evaluate` takes, such as `extraction_strength`.
            original: The model before unlearning, or its name, to have the same numbers of it; only this model when None.
            config: Settings, or the name of a preset.
            progress: Whether to show progress bars.
            **settings: Fields of `EvaluationConfig` that override `config`, such as `tokens` or `prompts`.

        Returns:
            The result with the numbers in its record; the models are left as they are.

        Raises:
            ConfigError: The model is no causal language model, or a metric or a setting is unknown.
        """
        if self.record.task != "next token":
            raise ConfigError(f"These metrics are of causal language models, but this one predicts a {self.record.task}.")
        check_metrics(metrics)
        before = models.load(original, dtype=self.record.dtype)[0] if isinstance(original, str) else original
        tokenizer = cast(PreTrainedTokenizerBase, self.tokenizer)
        found = ask(
            self.model, before, self.held_out, metrics, config=config, tokenizer=tokenizer, progress=progress, **settings
        )
        return replace(self, record=self.record.model_copy(update={"metrics": (*self.record.metrics, found)}))

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> Path:
        """Write an ordinary checkpoint, with the mask, the statistics, the record, a report and a model card beside it.

        Plain `AutoModelForCausalLM.from_pretrained(folder)` loads it, in a process without this package. Where the removed
        weights were kept they are written too, as `removed.safetensors`: do not give that file away with the model.

        Args:
            folder: Where to write. A folder of ours is replaced once the new one is complete; any other that is not empty is
                refused.
            license: The license of the original model, for the card.

        Returns:
            The folder.

        Raises:
            OutputError: The folder is not ours to replace, or cannot be written; what was there is untouched.
        """
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
            HubError: The Hub refuses, or cannot be reached; the message says what to do.
        """
        with temporary_folder() as folder:
            self._write(folder, license or self._ask_license(options.get("token")), gathered(self.model))
            return push_folder(folder, repo_id, **options)

    def save_adapters(self, folder: str | Path, *, license: str | None = None) -> Path:
        """Write every step as a stock peft adapter, so that the strength can be chosen after the fact.

        `PeftModel.from_pretrained(original, folder, subfolder="step-02")` loads the second. Adapters belong on the original
        model; they hide what this result's own model has removed.

        Args:
            folder: Where to write. A folder of ours is replaced; any other that is not empty is refused.
            license: The license of the original model, for the card.

        Returns:
            The folder.

        Raises:
            OutputError: The folder is not ours to replace, or cannot be written; what was there is untouched.
        """

        def write() -> None:
            with whole_folder(folder) as draft:
                write_adapter_path(draft, self.record, self.mask_path, Path(folder).name, license)

        in_main(write)
        return Path(folder)

    def push_adapters_to_hub(self, repo_id: str, *, license: str | None = None, **options: Unpack[PushOptions]) -> str:
        """Push what `save_adapters` writes.

        Args:
            repo_id: `user/name` on the Hub; made when there is none.
            license: The license of the original model; the Hub is asked for it when None.
            **options: As in `PushOptions`.

        Returns:
            The address of the commit.

        Raises:
            HubError: The Hub refuses, or cannot be reached; the message says what to do.
        """
        with temporary_folder() as folder:
            license = license or self._ask_license(options.get("token"))
            write_adapter_path(folder, self.record, self.mask_path, repo_id, license)
            return push_folder(folder, repo_id, **options)

    def _write(self, folder: Path, license: str | None, weights: dict[str, Tensor] | None) -> None:
        """Write everything but the removed weights."""
        save_model(self.model, folder, weights)
        if isinstance(self.tokenizer, PreTrainedTokenizerBase):
            self.tokenizer.save_pretrained(folder)
        self.mask.save(folder / FILE)
        save_mask_path(folder / MASK_PATH, self.mask_path)
        self.forget.save(folder / "statistics-forget.safetensors")
        self.retain.save(folder / "statistics-retain.safetensors")
        self._write_report(folder, license)

    def save_report(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write the record, the page and the card alone, in the place of those that are there.

        Args:
            folder: The folder that this result was saved in, whose weights stay as they are.
            license: The license of the original model, for the card.

        Raises:
            OutputError: The folder cannot be written, or holds a file of another's that would be replaced; nothing is, then.
        """

        def write() -> None:
            with changed_folder(folder) as draft:
                self._write_report(draft, license)

        in_main(write)

    def _write_report(self, folder: Path, license: str | None) -> None:
        """Write the record, the page and the card."""
        write_report(folder, self.record, self.forget, self.retain, self.mask, license=license)
        (folder / MARKER).write_text(self.record.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def _ask_license(self, token: str | None) -> str | None:
        """The license of the original model, as the Hub has it."""
        return license_of(self.record.model, self.record.revision, token)


def restore(model: PreTrainedModel, result: UnlearnResult | str | Path) -> PreTrainedModel:
    """Give a model exactly the weights back that unlearning removed from it.

    Args:
        model: The model that unlearned, or its checkpoint loaded again in the same dtype; changed in place. All of it is
            checked first: a model that was trained since is refused, as its original cannot come back.
        result: The result of `unlearn(..., keep_removed=True)`, or the folder that it was saved in.

    Returns:
        The same model, bit for bit as it was before it unlearned.

    Raises:
        MaskError: The removed weights were not kept, or the model is not as the removal left it; nothing is changed then.
    """
    removed = result.removed if isinstance(result, UnlearnResult) else _read_removed(Path(result))
    if removed is None:
        raise MaskError(
            "The removed weights must have been kept to be restored, but this result has none. Call "
            "`unlearn(..., keep_removed=True)` next time, and load the original model now."
        )
    put_back_(model, removed)
    return model


def _read_removed(folder: Path) -> RemovedWeights | None:
    """The removed weights beside a saved result, where they were kept."""
    recover(folder)
    return RemovedWeights.load(folder / REMOVED) if (folder / REMOVED).exists() else None
