"""What a compression leaves: a model with fewer neurons, with everything that was measured on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.arguments import checked_calls
from hf_untangle.by_name import ModelName, opened
from hf_untangle.compaction.target_widths import Layout
from hf_untangle.configs.keywords import RepairSettings
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.data.own_text_file import save_own_text
from hf_untangle.errors import CompactionError
from hf_untangle.evaluation.evaluate import evaluate
from hf_untangle.evaluation.keywords import EvaluationSettings
from hf_untangle.evaluation.score_cache import EvaluationConfig
from hf_untangle.masks.adapter import check_silences
from hf_untangle.masks.mask import FILE, NeuronMask
from hf_untangle.pruning.plan import PrunePlan, read_blocks
from hf_untangle.records.compression import CorpusMetricsRecord, PruneRecord
from hf_untangle.records.saved import corpus_again, read_removed, read_run_record, same_tokens
from hf_untangle.reporting.compression_page import write_prune_report
from hf_untangle.results.base import Result
from hf_untangle.statistics.activation_statistics import FILE as STATISTICS
from hf_untangle.statistics.activation_statistics import ActivationStatistics


@checked_calls
@dataclass(eq=False, kw_only=True, repr=False)
class PruneResult(Result):
    """A model with fewer neurons, with everything that was measured on the way.

    With `compact`, `model` is a new and smaller one, and the one that was passed in is as it was.
    """

    record: PruneRecord
    """Every setting and every number."""
    statistics: ActivationStatistics
    """What the neurons of the original model do on the corpus."""
    held_out: TokenBlocks
    """The test part of the corpus."""
    plan: PrunePlan | None = None
    """What was removed, and why; None in a result that was read back."""

    def compact(self, *, layout: Layout = "ragged", round_to: int | None = None) -> PreTrainedModel:
        """Take the removed neurons out of the tensors, see `hf_untangle.compact`.

        Args:
            layout: `ragged`, where every layer is as narrow as it can be, or `uniform`, which loads without this package.
            round_to: FFN widths are rounded up to a multiple of this.

        Returns:
            A smaller model with the same logits; `model` stays as it is.

        Raises:
            CompactionError: The neurons are out of the tensors already.
        """
        if self.record.config.compact is not None:
            raise CompactionError(
                f"Neurons can be taken out of the tensors once, but `compact={self.record.config.compact!r}` of this run did "
                "it. Use `result.model`, which is the smaller model."
            )
        return super().compact(layout=layout, round_to=round_to)

    def repair(
        self,
        data: CorpusSource | None = None,
        *,
        original: PreTrainedModel | ModelName | None = None,
        config: RepairConfig | str = "default",
        progress: bool = True,
        **settings: Unpack[RepairSettings],
    ) -> "PruneResult":
        """Train the model on a corpus, in place, while removed neurons are held at exactly zero.

        Args:
            data: The corpus to train on, its train part alone; the run's own when None.
            original: The model before the compression, or its name, which `distill` needs; the run's own name when None.
            config: Settings, or the name of a preset.
            progress: Whether to show progress bars.
            **settings: Fields of `RepairConfig` that override `config`, such as `method="full"`, `steps` or `distill`.

        Returns:
            This result, with the repair in its record, measured on the test part that the run was measured on. An error or
            an interruption before the repaired weights are there leaves the model as it was.

        Raises:
            ConfigError: A setting is unknown or out of its range.
        """
        from hf_untangle.repairs.repair import repair_measured  # It imports peft, which takes seconds.

        repaired = repair_measured(
            self.model,
            self.mask if self.record.config.compact is None else None,
            self.held_out,
            self.held_out.corpus if data is None else data,
            RepairConfig.resolve(config, **settings),
            tokenizer=cast(PreTrainedTokenizerBase, self.tokenizer),
            original=models.loadable_name(self.record.model, self.record.revision) if original is None else original,
            progress=progress,
        )
        self._weights_changed(repairs=(*self.record.repairs, repaired))
        return self

    def evaluate(
        self,
        metrics: Sequence[str],
        *,
        original: PreTrainedModel | ModelName | None = None,
        config: EvaluationConfig | str = "default",
        progress: bool = True,
        **settings: Unpack[EvaluationSettings],
    ) -> "PruneResult":
        """Measure more of the corpus, on its test part, for the record and the card.

        Args:
            metrics: Names that `hf_untangle.evaluate` takes, such as `extraction_strength`.
            original: The model before the compression, or its name, to have the same numbers of it; left out when None.
            config: Settings, or the name of a preset.
            progress: Whether to show progress bars.
            **settings: Fields of `EvaluationConfig` that override `config`, such as `tokens` or `prompts`.

        Returns:
            This result, with the numbers in its record; the models are left as they are.

        Raises:
            ConfigError: A metric or a setting is unknown.
        """
        tokenizer = cast(PreTrainedTokenizerBase, self.tokenizer)
        before = None if original is None else opened(original, dtype=self.record.dtype)
        how: dict[str, Any] = {"metrics": metrics, "config": config, "tokenizer": tokenizer, "progress": progress} | settings
        found = evaluate(self.model, self.held_out.corpus, **how)
        of_original = None if before is None else evaluate(before, self.held_out.corpus, **how).values
        measured = CorpusMetricsRecord(settings=found.config.model_dump(), values=found.values, before=of_original)
        self._update(metrics=(*self.record.metrics, measured))
        return self

    def to_adapter(self, folder: str | Path) -> Path:
        """Write the mask as a stock peft adapter of the original model, which hides what this result has removed.

        Args:
            folder: Where to write, as in `NeuronMask.to_adapter`.

        Returns:
            The folder.

        Raises:
            MaskError: The model is more than masked: it was repaired or refitted, or removed neurons do not read zero.
        """
        check_silences(self.record.config.ablation, refitted=self.record.refit is not None)
        return super().to_adapter(folder)

    @classmethod
    def _read(cls, folder: Path, corpora: Mapping[str, CorpusSource], loading: dict[str, Any]) -> "PruneResult":
        """Read what `_write` wrote, and the test part anew."""
        record = read_run_record(folder, PruneRecord)
        corpus = corpus_again(record.corpora, "data", corpora.get("data"), folder)
        model, tokenizer = models.load(str(folder), **loading)
        held_out = read_blocks(corpus, tokenizer, "test", record.config)
        same_tokens(held_out, record.corpora["test"], "data")
        return cls(
            model=model,
            tokenizer=tokenizer,
            mask=NeuronMask.load(folder / FILE),
            record=record,
            removed=read_removed(folder),
            statistics=ActivationStatistics.load(folder / STATISTICS),
            held_out=held_out,
        )

    def _write_statistics(self, folder: Path) -> None:
        """Write what the neurons were chosen by."""
        self.statistics.save(folder / STATISTICS)
        save_own_text(self.held_out, folder)

    def _write_report(self, folder: Path, license: str | None) -> None:
        """Write the page, its figure and the card."""
        write_prune_report(folder, self.record, license)
