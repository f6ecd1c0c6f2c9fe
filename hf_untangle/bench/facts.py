"""The benchmark of facts: fine-tune a model on invented facts, let methods unlearn some, and compare with a gold model."""

import importlib.util
import logging
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel

from hf_untangle.arguments import checked_arguments
from hf_untangle.bench.facts_config import FactsBenchConfig
from hf_untangle.bench.facts_models import Base, loaded, tuned
from hf_untangle.bench.facts_record import FactsBenchRecord, FactsResult, FactsRow
from hf_untangle.bench.facts_rows import RANDOM, RETAIN_ONLY, Workshop
from hf_untangle.bench.facts_scores import Examiner
from hf_untangle.bench.kept import kept
from hf_untangle.bench.question_benchmarks import GOLD, ORIGINAL
from hf_untangle.by_name import Loading
from hf_untangle.errors import BudgetError, MissingExtraError
from hf_untangle.folders import cache_folder
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.metrics.membership import privacy_leakage
from hf_untangle.metrics.two_samples import forget_quality
from hf_untangle.records.provenance import device_name, versions

logger = logging.getLogger("hf_untangle")

ROWS = sorted(set(FactsBenchConfig.model_fields) - {"methods"})
"""Settings that a row depends on: another method in the list leaves the rows of the others as they are."""


@checked_arguments
def bench_facts(
    model: str = "smollm2",
    *,
    loading: Loading | None = None,
    config: FactsBenchConfig | str = "default",
    progress: bool = True,
    **settings: object,
) -> FactsBenchRecord:
    """Compare unlearning methods on facts that no model has read before, in the terms of TOFU (arXiv:2401.06121).

    The model is fine-tuned on invented people, places and works (the original), and a copy of it on all but those to forget
    (gold). Each method then unlearns a copy of the original; a random mask of the same size, and training on the retain facts
    alone, stand beside them. Fine-tuned models and finished rows are kept in the cache, so that a stopped run continues.

    Args:
        model: An embedded model, a folder, or a Hub id of a causal language model.
        loading: How to load the model: `device_map`, `revision` and `trust_remote_code`, as in `load`.
        config: Settings, or the name of a preset: `default`, or `quick`, meant for half an hour of SmolLM2 on two cores.
        progress: Whether to show progress bars.
        **settings: Fields of `FactsBenchConfig` that override `config`, such as `methods=["prune"]` or `seed`.

    Returns:
        Every model of the table, with everything that was measured.

    Raises:
        ConfigError: A setting is unknown or out of its range.
        MissingExtraError: `rouge_score` is not installed.
    """
    config = FactsBenchConfig.resolve(config, **settings)
    if importlib.util.find_spec("rouge_score") is None:
        raise MissingExtraError("The benchmark of facts needs the package `rouge_score`: run `pip install rouge-score`.")
    start = time.perf_counter()
    facts, base = config.facts(), Base.of(model, **(loading or {}))
    folders = {which: tuned(which, base, facts, config, progress=progress) for which in (ORIGINAL, GOLD)}
    first, tokenizer = loaded(folders[ORIGINAL])
    workshop = Workshop(folders[ORIGINAL], Examiner(tokenizer, facts, config), progress)
    book = _Book(cache_folder() / "bench" / f"facts-rows-{base.key(config, ROWS)}", workshop)
    rows = [
        book.row(ORIGINAL, lambda: (first, None)),
        book.row(GOLD, lambda: (loaded(folders[GOLD])[0], None)),
        *(book.row(name, lambda name=name: workshop.method(name)) for name in config.methods),
    ]
    if (mask := book.mask("prune")) is not None:
        rows.append(book.row(RANDOM, lambda: (workshop.random(mask), None)))
    rows.append(book.row(RETAIN_ONLY, lambda: (workshop.retain_only(), None)))
    return FactsBenchRecord(
        model=base.known_as,
        revision=base.revision,
        settings=config.model_dump(mode="json"),
        results=tuple(compared(rows)),
        versions=versions(),
        device=device_name(first),
        date=date.today().isoformat(),
        seconds=time.perf_counter() - start,
    )


def compared(rows: list[FactsRow]) -> list[FactsResult]:
    """Set every row against original and gold, which come first.

    Args:
        rows: What was measured.

    Returns:
        The rows with forget quality, utility relative to the original, and privacy leakage.
    """
    original, gold = (row.scores for row in rows[:2])
    assert original is not None and gold is not None
    results = []
    for row in rows:
        if row.scores is None:
            results.append(FactsResult(row=row))
            continue
        leak = privacy_leakage(row.scores.min_k_auc, gold.min_k_auc) if gold.min_k_auc < 1 else {}
        results.append(
            FactsResult(
                row=row,
                forget_quality=forget_quality(row.scores.ratios, gold.ratios)["forget_quality"],
                utility_kept=row.scores.utility / original.utility if original.utility else None,
                privacy_leakage=leak.get("privacy_leakage"),
            )
        )
    return results


class _Book:
    """Rows that are written down as soon as they are measured."""

    def __init__(self, folder: Path, workshop: Workshop) -> None:
        """Measure nothing yet.

        Args:
            folder: Where the rows of these settings are kept, by the name of the method.
            workshop: What measures.
        """
        self._folder, self._workshop = folder, workshop

    def row(self, name: str, make: Callable[[], tuple[PreTrainedModel, NeuronMask | None]]) -> FactsRow:
        """Read a row, or make the model and measure it.

        Args:
            name: The name of the row.
            make: Makes the model, and says which neurons it removed.

        Returns:
            The row.
        """
        return kept(self._file_of(name, "json"), FactsRow, partial(self._measured, name, make))

    def mask(self, name: str) -> NeuronMask | None:
        """Read which neurons a row has removed.

        Args:
            name: The name of the row.

        Returns:
            The mask, or None where there is none.
        """
        file = self._file_of(name, "safetensors")
        return NeuronMask.load(file) if file.exists() else None

    def _measured(self, name: str, make: Callable[[], tuple[PreTrainedModel, NeuronMask | None]]) -> FactsRow:
        """Make the model of a row and measure it."""
        start = time.perf_counter()
        try:
            model, mask = make()
        except BudgetError as error:
            return FactsRow(name=name, scores=None, seconds=time.perf_counter() - start, note=str(error))
        seconds = time.perf_counter() - start
        if mask is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            mask.save(self._file_of(name, "safetensors"))
        scores = self._workshop.examiner.scores(model)
        logger.info("%s: made in %.0f s, measured in %.0f s.", name, seconds, time.perf_counter() - start - seconds)
        return FactsRow(name=name, scores=scores, relearned=self._workshop.relearned(model), seconds=seconds)

    def _file_of(self, name: str, ending: str) -> Path:
        """Where something of a row is kept."""
        return self._folder / f"{name.replace(' ', '-')}.{ending}"
