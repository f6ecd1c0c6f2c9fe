"""The benchmark of methods: each unlearns the same corpus inside the same budgets, and is measured and attacked alike."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.arguments import checked_arguments
from hf_untangle.bench.kept import kept
from hf_untangle.bench.methods_config import Contender, MethodsBenchConfig
from hf_untangle.bench.methods_record import Cell, Measured, MethodsBenchRecord, Point
from hf_untangle.bench.peak_memory import peak_memory
from hf_untangle.by_name import Loading
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus, CorpusSource, Part, corpus
from hf_untangle.data.held_out import held_out_blocks
from hf_untangle.data.two_corpora import GENERAL, two_corpora
from hf_untangle.errors import BudgetError
from hf_untangle.evaluation.kl_to_original import TopLogits, metrics_and_divergence, reference_predictions
from hf_untangle.evaluation.next_token import NextTokenMetrics, next_token_metrics
from hf_untangle.folders import cache_folder
from hf_untangle.methods.choose import AUTO
from hf_untangle.pruning.step import read_pair
from hf_untangle.records.provenance import device_name, versions
from hf_untangle.results.unlearned import UnlearnResult
from hf_untangle.statistics.fingerprint import weights_fingerprint
from hf_untangle.unlearn import unlearn

logger = logging.getLogger("hf_untangle")

BATCH = 8
"""Blocks in a forward pass of what is measured here."""


@checked_arguments
def bench_methods(
    model: str = "smollm2",
    forget: CorpusSource = "code",
    retain: CorpusSource | None = None,
    *,
    also: Mapping[str, CorpusSource] | None = None,
    dtype: models.Dtype = "auto",
    loading: Loading | None = None,
    config: MethodsBenchConfig | str = "default",
    progress: bool = True,
    **settings: object,
) -> MethodsBenchRecord:
    """Compare unlearning methods at equal disruption on one model and one pair of corpora.

    Every cell (a method with a seed) begins with a fresh copy of the model, and is written down in the cache as soon as it is
    measured, so that a stopped run continues with the next cell.

    Args:
        model: An embedded model, a folder, or a Hub id of a causal language model.
        forget: The corpus whose capability goes.
        retain: The corpus whose capability stays, on which all budgets are judged; when None, the other side of a preference
            data set, or `general` prose.
        also: Corpora that no method is told of, by name, measured before and after; all rows of them.
        dtype: The dtype of the weights; `auto` is the one that this machine is fast in.
        loading: How else to load the model: `device_map`, `revision` and `trust_remote_code`, as in `load`.
        config: Settings, or the name of a preset: `default`, or `quick`, meant for half an hour of SmolLM2 on two cores.
        progress: Whether to show progress bars.
        **settings: Fields of `MethodsBenchConfig` that override `config`, such as `methods=["prune", "npo"]` or `seeds`.

    Returns:
        Every cell, with everything that was measured.

    Raises:
        ConfigError: A setting is unknown or out of its range.
    """
    config = MethodsBenchConfig.resolve(config, **settings)
    task = _Task(model, dtype, loading or {}, *two_corpora(forget, retain), config, progress)
    original, tokenizer = task.load()
    blocks = _held_out(task, also or {}, tokenizer)
    examiner = _Examiner.of(original, blocks)
    folder = cache_folder() / "bench" / f"methods-{_key(task, original, tokenizer, blocks)}"
    cells = [
        kept(folder / f"{method}-{seed}.json", Cell, partial(_cell, task, method, seed, examiner))
        for seed in range(config.seeds)
        for method in config.methods
    ]
    return MethodsBenchRecord(
        model=str(original.name_or_path),
        revision=models.revision_of(original),
        dtype=str(original.dtype).removeprefix("torch."),
        settings=config.model_dump(mode="json"),
        corpora={name: one.record() for name, one in blocks.items()},
        cells=tuple(cells),
        versions=versions(),
        device=device_name(original),
        date=date.today().isoformat(),
    )


@dataclass(frozen=True, eq=False)
class _Task:
    """What all cells have in common."""

    model: str
    dtype: models.Dtype
    loading: Loading
    forget: Corpus
    retain: Corpus
    config: MethodsBenchConfig
    progress: bool

    def load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """A fresh copy of the model."""
        return models.load(self.model, dtype=self.dtype, **self.loading)


@dataclass(frozen=True, eq=False)
class _Examiner:
    """Measures a model beside the original, which need not be in memory."""

    blocks: Mapping[str, TokenBlocks]
    before: Mapping[str, NextTokenMetrics]
    references: Mapping[str, TopLogits]
    """What the original predicts of every corpus but the forget corpus."""

    @classmethod
    def of(cls, original: PreTrainedModel, blocks: Mapping[str, TokenBlocks]) -> "_Examiner":
        """Measure the original."""
        before = {name: next_token_metrics(original, one, batch_size=BATCH, progress=False) for name, one in blocks.items()}
        kept = {name: one for name, one in blocks.items() if name != "forget"}
        references = {name: reference_predictions(original, one, batch_size=BATCH) for name, one in kept.items()}
        return cls(blocks, before, references)

    def measured(self, model: PreTrainedModel) -> dict[str, Measured]:
        """Measure a model that has unlearned."""
        blocks = self.blocks["forget"]
        forget = next_token_metrics(model, blocks, batch_size=BATCH, progress=False)
        found = {"forget": Measured(before=self.before["forget"], after=forget, disruption=None)}
        for name, reference in self.references.items():
            after, disruption = metrics_and_divergence(model, self.blocks[name], reference, batch_size=BATCH)
            found[name] = Measured(before=self.before[name], after=after, disruption=disruption)
        return found


def _held_out(task: _Task, also: Mapping[str, CorpusSource], tokenizer: PreTrainedTokenizerBase) -> dict[str, TokenBlocks]:
    """The blocks that every cell is measured on: `forget`, `retain`, and those of other corpora as `also: NAME`."""
    how = {"tokens": task.config.evaluation_tokens, "part": "test", "block_size": task.config.block_size}
    sources = {"forget": task.forget, "retain": task.retain}
    sources |= {f"also: {name}": corpus(source, name=name, split="all") for name, source in also.items()}
    return {name: held_out_blocks(corpus(source), tokenizer, **how).first for name, source in sources.items()}


def _key(task: _Task, original: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, blocks: Mapping[str, TokenBlocks]) -> str:
    """A word for everything that a cell depends on besides its method and seed: this package and what methods read included."""
    config = task.config
    settings = config.model_dump(mode="json", exclude={"methods", "seeds"})
    how = UnlearnConfig(tokens=config.tokens, evaluation_tokens=config.evaluation_tokens, block_size=config.block_size)
    learned: list[Part] = ["train", "validation"]
    content = {
        "weights": weights_fingerprint(original),
        "dtype": str(original.dtype),
        "version": version("hf-untangle"),
        "settings": settings,
        "measured": {name: one.fingerprint for name, one in blocks.items()},
        "read": [
            one.fingerprint for part in learned for one in read_pair(task.forget, task.retain, tokenizer, part, how).all()
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _cell(task: _Task, method: str, seed: int, examiner: _Examiner) -> Cell:
    """Let one method unlearn, measure it and attack it."""
    contender, start = Contender.of(method), time.perf_counter()
    try:
        with peak_memory() as peak:
            result, trials = _unlearned(task, contender, seed)
    except BudgetError as error:
        return Cell(method=method, seed=seed, seconds=time.perf_counter() - start, note=str(error))
    seconds = time.perf_counter() - start
    found = examiner.measured(result.model)
    if task.config.attacks:
        result.attack(original=task.load()[0], progress=task.progress, **task.config.of_attack(seed))
    logger.info("%s, seed %d: %.0f s, forget drop %.1f%%.", method, seed, seconds, 100 * found["forget"].drop)
    rates = (one.learning_rate for one in result.record.training)
    return Cell(
        method=method,
        seed=seed,
        forget=found["forget"],
        retain=found["retain"],
        also={name.removeprefix("also: "): one for name, one in found.items() if name.startswith("also: ")},
        random_drop=_random_drop(result),
        path=_path(result),
        learning_rates=tuple(rate for rate in rates if rate is not None),
        trials=trials,
        attacks=result.record.attacks[-1] if result.record.attacks else None,
        seconds=seconds,
        peak_bytes=peak.bytes,
    )


def _unlearned(task: _Task, contender: Contender, seed: int) -> tuple[UnlearnResult, int]:
    """Run a method; pruning alone, which has no learning rate, once for each size of its steps."""
    run = task.config.of_run(contender, seed)
    if not contender.only_prunes:
        return _run(task, contender, run), len(task.config.trials)
    found: list[UnlearnResult] = []
    problem = None
    for times in task.config.trials:
        try:
            found.append(
                _run(task, contender, run | {name: times * run[name] for name in ("ffn_fraction", "attention_fraction")})
            )
        except BudgetError as error:
            problem = error
    if problem is not None and not found:
        raise problem
    best = max(found, key=lambda one: one.history.step.scores.selectivity(one.history.base))
    return best, len(task.config.trials)


def _run(task: _Task, contender: Contender, settings: dict[str, Any]) -> UnlearnResult:
    """Unlearn with a fresh copy of the model."""
    model, tokenizer = task.load()
    how = {"method": contender.names, "tokenizer": tokenizer, "prompts": [], "progress": task.progress}
    # As users get it, `auto` finds itself what it retains beside `general`.
    retain = None if contender.names == (AUTO,) and task.retain.name == GENERAL else task.retain
    return unlearn(model, task.forget, retain, **how, **settings)


def _random_drop(result: UnlearnResult) -> float | None:
    """What random masks, or random updates, of the size of the result take of the forget corpus on average."""
    test = result.record.test
    return fmean(one.forget_drop(test.before) for one in test.controls) if test.controls else None


def _path(result: UnlearnResult) -> tuple[Point, ...]:
    """The judged steps whose disruption was measured, from the gentlest on."""
    base = result.history.base
    scores = (step.scores for step in result.history.steps)
    points = (
        Point(disruption=one.disruption, forget_drop=one.forget_drop(base), retain_drop=one.retain_drop(base))
        for one in scores
        if one.disruption is not None
    )
    return tuple(sorted(points, key=lambda point: point.disruption))
