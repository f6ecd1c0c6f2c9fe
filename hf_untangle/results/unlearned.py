"""What an unlearning run leaves: a model without a capability, with everything that was measured on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.architecture.commit import undone_on_failure
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_calls
from hf_untangle.attacks.saved import read_saved
from hf_untangle.by_name import ModelName, opened
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.configs.keywords import AttackSettings, RepairSettings, RobustifySettings
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.configs.robustify import RobustifyConfig
from hf_untangle.data.corpora import CorpusSource, corpus
from hf_untangle.data.images import ImageClasses
from hf_untangle.data.own_text_file import save_own_text
from hf_untangle.distributed import in_main
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.evaluate import check_metrics
from hf_untangle.evaluation.keywords import EvaluationSettings
from hf_untangle.evaluation.score_cache import EvaluationConfig
from hf_untangle.folders import temporary_folder, whole_folder
from hf_untangle.hub.upload import PushOptions, push_folder
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.mask_path import MASK_PATH, load_mask_path, save_mask_path
from hf_untangle.pruning.extra_metrics import ask
from hf_untangle.pruning.step import Pair
from hf_untangle.records.saved import read_removed
from hf_untangle.records.unlearning import History, UnlearnRecord
from hf_untangle.reporting.adapter_path import check_adaptable, write_adapter_path
from hf_untangle.reporting.report import write_report
from hf_untangle.results.base import Result
from hf_untangle.results.strength import move_, step_at
from hf_untangle.statistics.activation_statistics import ActivationStatistics

STATISTICS = {"forget": "statistics-forget.safetensors", "retain": "statistics-retain.safetensors"}
"""The file of each corpus' statistics beside a checkpoint."""


@checked_calls
@dataclass(eq=False, kw_only=True, repr=False)
class UnlearnResult(Result):
    """A model that has unlearned, with everything that was measured on the way."""

    record: UnlearnRecord
    """Every setting and every number."""
    mask_path: tuple[NeuronMask, ...]
    """The mask of every step, weakest first."""
    forget: ActivationStatistics
    """Statistics of the original model on the forget corpus."""
    retain: ActivationStatistics
    """The same on the retain corpus."""
    held_out: Pair
    """The test parts of both corpora."""

    @property
    def history(self) -> History:
        """The steps, judged on the validation parts."""
        return self.record.history

    @property
    def original_name(self) -> str:
        """What loads the original model: its name, or that of the package that carries it."""
        return models.loadable_name(self.record.model, self.record.revision)

    @all_or_nothing
    def repair(
        self,
        retain: CorpusSource | None = None,
        *,
        original: PreTrainedModel | ModelName | None = None,
        config: RepairConfig | str = "default",
        progress: bool = True,
        **settings: Unpack[RepairSettings],
    ) -> "UnlearnResult":
        """Train the model on the retain corpus alone, in place, while removed neurons are held at exactly zero.

        Args:
            retain: The corpus to train on, its train part alone; the run's own when None.
            original: The model before unlearning, or its name, which `distill` needs; the run's own name when None.
            config: Settings, or the name of a preset.
            progress: Whether to show progress bars.
            **settings: Fields of `RepairConfig` that override `config`, such as `method="full"`, `steps` or `distill`.

        Returns:
            This result, with the repair in its record, measured on the test parts that the run was measured on. Attacks and
            metrics of the weights before the repair leave the record. An error or an interruption leaves the model and
            the record as they were.

        Raises:
            ConfigError: The model is no causal language model, or a setting is unknown or out of its range.
        """
        from hf_untangle.repairs.repair import repair_measured  # It imports peft, which takes seconds.

        kept = self.held_out.retain.corpus if retain is None else retain
        if self.record.task != "next token" or isinstance(kept, ImageClasses):
            raise ConfigError(f"Repair trains a causal language model, but this one predicts a {self.record.task}.")
        with undone_on_failure() as undo:
            repaired = repair_measured(
                self.model,
                self.mask,
                self.held_out,
                kept,
                RepairConfig.resolve(config, **settings),
                tokenizer=cast(PreTrainedTokenizerBase, self.tokenizer),
                original=self.original_name if original is None else original,
                progress=progress,
            )
            undo.callback(setattr, self, "record", self.record)
            self._weights_changed(repairs=(*self.record.repairs, repaired))
            return self

    @all_or_nothing
    def robustify(
        self,
        retain: CorpusSource | None = None,
        *,
        config: RobustifyConfig | str = "default",
        progress: bool = True,
        **settings: Unpack[RobustifySettings],
    ) -> "UnlearnResult":
        """Distill the model into its own shrunk and perturbed weights, in place, so that relearning takes longer.

        Args:
            retain: The corpus to distill on, its train part alone; the run's own when None.
            config: Settings, or the name of a preset.
            progress: Whether to show progress bars.
            **settings: Fields of `RobustifyConfig` that override `config`, such as `strength` or `tokens`.

        Returns:
            This result, with the distillation among the repairs of its record, measured on the test parts that the run was
            measured on. Attacks and metrics of the weights before leave the record. Removed neurons stay at exactly zero. An
            error or an interruption leaves the model and the record as they were.

        Raises:
            ConfigError: The model is no causal language model, or a setting is unknown or out of its range.
        """
        from hf_untangle.repairs.robustify import robustify_measured  # It imports peft, which takes seconds.

        kept = self.held_out.retain.corpus if retain is None else corpus(retain)
        gone = self.held_out.forget.corpus
        if self.record.task != "next token" or isinstance(kept, ImageClasses) or isinstance(gone, ImageClasses):
            raise ConfigError(f"Robustify distills a causal language model, but this one predicts a {self.record.task}.")
        with undone_on_failure() as undo:
            robust = robustify_measured(
                self.model,
                self.mask,
                self.held_out,
                (gone, kept),
                RobustifyConfig.resolve(config, **settings),
                tokenizer=cast(PreTrainedTokenizerBase, self.tokenizer),
                progress=progress,
            )
            undo.callback(setattr, self, "record", self.record)
            self._weights_changed(repairs=(*self.record.repairs, robust))
            return self

    def attack(
        self,
        *,
        original: PreTrainedModel | ModelName | None = None,
        gold: PreTrainedModel | ModelName | None = None,
        neighbor: CorpusSource | None = None,
        config: AttackConfig | str = "default",
        progress: bool = True,
        **settings: Unpack[AttackSettings],
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
            This result, with the attacks in its record; `hf_untangle.attack` gives a report alone.

        Raises:
            ConfigError: A setting is unknown or out of its range, the model is no causal language model, or the original is
                not the one that the result was made from.
        """
        from hf_untangle.attacks.run import attack  # It imports peft, which takes seconds.

        what = {"config": config, "original": original, "gold": gold, "neighbor": neighbor}
        report = attack(self, **what, progress=progress, **settings)  # type: ignore[arg-type]
        self._update(attacks=(*self.record.attacks, report.record))
        return self

    def evaluate(
        self,
        metrics: Sequence[str],
        *,
        original: PreTrainedModel | ModelName | None = None,
        config: EvaluationConfig | str = "default",
        progress: bool = True,
        **settings: Unpack[EvaluationSettings],
    ) -> "UnlearnResult":
        """Measure more of both corpora, on their test parts, for the record, the page and the card.

        Args:
            metrics: Names that `hf_untangle.evaluate` takes, such as `extraction_strength`.
            original: The model before unlearning, or its name, to have the same numbers of it; only this model when None.
            config: Settings, or the name of a preset.
            progress: Whether to show progress bars.
            **settings: Fields of `EvaluationConfig` that override `config`, such as `tokens` or `prompts`.

        Returns:
            This result, with the numbers in its record; the models are left as they are.

        Raises:
            ConfigError: The model is no causal language model, or a metric or a setting is unknown.
        """
        if self.record.task != "next token":
            raise ConfigError(f"These metrics are of causal language models, but this one predicts a {self.record.task}.")
        check_metrics(metrics)
        before = None if original is None else opened(original, dtype=self.record.dtype)
        tokenizer = cast(PreTrainedTokenizerBase, self.tokenizer)
        found = ask(
            self.model, before, self.held_out, metrics, config=config, tokenizer=tokenizer, progress=progress, **settings
        )
        self._update(metrics=(*self.record.metrics, found))
        return self

    @all_or_nothing
    def at_strength(
        self,
        strength: int | None = None,
        *,
        forget_drop: float | None = None,
        retain_drop: float | None = None,
        groups: tuple[NeuronGroup, ...] | None = None,
        progress: bool = True,
    ) -> "UnlearnResult":
        """Make another step of the run the result: the model is given its weights back, and what that step removes is removed.

        Args:
            strength: The number of the step, as on the page and in `mask_path`, from 1.
            forget_drop: Instead of it, the weakest step that takes at least this share of forget's top-1.
            retain_drop: Instead of it, the step that takes most of forget, for at most this share of retain's top-1.
            groups: The neuron groups that the run was given, where they cannot be found; found when None.
            progress: Whether to show progress bars.

        Returns:
            This result at that step, measured on the test parts beside new controls. Attacks, other metrics and what else was
            measured (`also`) leave the record, as they are of another model. An error or an interruption leaves everything
            as it was.

        Raises:
            ConfigError: Not exactly one point is asked for, or there is no such step.
            BudgetError: No step takes so much of forget, or so little of retain.
            MaskError: The removed weights were not kept (`keep_removed=True`), or the model was more than pruned.
        """
        step = step_at(self.history, strength, forget_drop, retain_drop)
        tokenizer = self.tokenizer if isinstance(self.tokenizer, PreTrainedTokenizerBase) else None
        how = {"statistics": self.retain, "test": self.held_out, "groups": groups, "progress": progress}
        with undone_on_failure() as undo:
            undo.callback(vars(self).update, dict(vars(self)))
            moved = move_(self.model, tokenizer, self.removed, self.record, step, mask=self.mask_path[step - 1], **how)
            self.mask, self.removed, self.record = moved.mask, moved.removed, moved.record
            self._weights_changed()
            return self

    def to_adapter(self, folder: str | Path) -> Path:
        """Write the mask as a stock peft adapter of the original model, which hides what this result has removed.

        Args:
            folder: Where to write, as in `NeuronMask.to_adapter`.

        Returns:
            The folder.

        Raises:
            MaskError: The model is more than masked: it was trained, repaired or refitted, or removed neurons do not read zero.
        """
        check_adaptable(self.record)
        return super().to_adapter(folder)

    def save_adapters(self, folder: str | Path, *, license: str | None = None) -> Path:
        """Write every step as a stock peft adapter, so that the strength can be chosen after the fact.

        `PeftModel.from_pretrained(original, folder, subfolder="step-02")` loads the second, onto the original model.

        Args:
            folder: Where to write. A folder that this package wrote is replaced; any other that is not empty is refused.
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

    @classmethod
    def _read(cls, folder: Path, corpora: Mapping[str, CorpusSource], loading: dict[str, Any]) -> "UnlearnResult":
        """Read what `_write` wrote, and the test parts anew."""
        return cls(
            **vars(read_saved(folder, corpora, **loading)),
            removed=read_removed(folder),
            mask_path=load_mask_path(folder / MASK_PATH),
            forget=ActivationStatistics.load(folder / STATISTICS["forget"]),
            retain=ActivationStatistics.load(folder / STATISTICS["retain"]),
        )

    def _write_statistics(self, folder: Path) -> None:
        """Write the masks of all steps, and what the neurons were chosen by."""
        save_mask_path(folder / MASK_PATH, self.mask_path)
        self.forget.save(folder / STATISTICS["forget"])
        self.retain.save(folder / STATISTICS["retain"])
        save_own_text(self.held_out.retain, folder)

    def _write_report(self, folder: Path, license: str | None) -> None:
        """Write the page, its figures and the card."""
        write_report(folder, self.record, self.forget, self.retain, self.mask, license=license)
