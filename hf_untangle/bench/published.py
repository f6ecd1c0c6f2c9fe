"""The public benchmarks of unlearning, TOFU, MUSE and WMDP: one table in the columns of the published ones."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.arguments import checked_arguments
from hf_untangle.bench.published_config import PublishedBenchConfig
from hf_untangle.bench.published_exam import Exam
from hf_untangle.bench.published_sets import PUBLISHED, Numbers, Published
from hf_untangle.bench.published_table import PublishedBenchRecord, PublishedRow
from hf_untangle.bench.question_benchmarks import GOLD, ORIGINAL
from hf_untangle.by_name import Loading
from hf_untangle.config import nearest
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.data.questions import questions
from hf_untangle.errors import BudgetError, ConfigError
from hf_untangle.methods.choose import method_names, split_settings
from hf_untangle.records.provenance import device_name, versions
from hf_untangle.unlearn import unlearn


@checked_arguments
def bench_published(
    benchmark: str,
    *,
    original: str | None = None,
    gold: str | None = None,
    dtype: models.Dtype = "auto",
    loading: Loading | None = None,
    config: PublishedBenchConfig | str = "default",
    progress: bool = True,
    **settings: object,
) -> PublishedBenchRecord:
    """Let methods unlearn what a public benchmark asks for, and measure them in its own columns.

    Models and sets are read from the Hub under the names that the published tables used; another checkpoint may take the
    place of either model.

    Args:
        benchmark: A key of `PUBLISHED`: `tofu-forget01`, `tofu-forget05`, `tofu-forget10`, `muse-news`, `muse-books`,
            `wmdp-bio` or `wmdp-cyber`.
        original: The model that unlearns; the benchmark's own when None.
        gold: A model that never saw what is to be forgotten; the benchmark's own when None.
        dtype: The dtype of the weights.
        loading: How else to load models: `device_map`, `revision` and `trust_remote_code`, as in `load`.
        config: Settings, or the name of a preset: `default`, or `quick`, which asks few questions.
        progress: Whether to show progress bars.
        **settings: Fields of `PublishedBenchConfig` that override `config`, such as `methods={"npo": {"learning_rate": 5e-5}}`.

    Returns:
        Every model of the table, with everything that was measured.

    Raises:
        ConfigError: There is no such benchmark, or a setting is unknown or out of its range.
    """
    config = PublishedBenchConfig.resolve(config, **settings)
    if benchmark not in PUBLISHED:
        raise ConfigError(
            f"The benchmark must be one of {', '.join(PUBLISHED)}, got `{benchmark}`{nearest(benchmark, PUBLISHED)}."
        )
    for method, own in config.methods.items():
        split_settings(method_names(method.split("+")), "default", {**config.shared, **own})
    table = PUBLISHED[benchmark]
    table = replace(table, original=original or table.original, gold=gold or table.gold)

    def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return models.load(name, dtype=dtype, **(loading or {}))

    def ask(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Numbers:
        return table.measure(Exam(model, tokenizer, config, table.system, table.template))

    start = time.perf_counter()
    first = load(table.original)
    device, numbers = device_name(first[0]), ask(*first)
    del first
    reference = None if table.gold is None else ask(*load(table.gold))
    rows = [_row(table, ORIGINAL, table.original, numbers, reference, start)]
    if table.gold is not None:
        rows.append(_row(table, GOLD, table.gold, reference or {}, reference, start))
    for method in config.methods:
        start = time.perf_counter()
        try:
            model, tokenizer = _unlearned(table, load, method, config, progress)
        except BudgetError as error:
            rows.append(PublishedRow(name=method, model=table.original, note=str(error), seconds=time.perf_counter() - start))
        else:
            rows.append(_row(table, method, table.original, ask(model, tokenizer), reference, start))
            del model
    return PublishedBenchRecord(
        benchmark=benchmark,
        settings=config.model_dump(mode="json"),
        rows=tuple(rows),
        versions=versions(),
        device=device,
        date=date.today().isoformat(),
    )


def _row(table: Published, name: str, model: str, own: Numbers, gold: Numbers | None, start: float) -> PublishedRow:
    """A model in the columns of the benchmark."""
    seconds = time.perf_counter() - start
    return PublishedRow(name=name, model=model, columns=table.columns(own, gold), numbers=own, seconds=seconds)


def _unlearned(
    table: Published,
    load: Callable[[str], tuple[PreTrainedModel, PreTrainedTokenizerBase]],
    method: str,
    config: PublishedBenchConfig,
    progress: bool,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Let one method unlearn a fresh copy of the original."""
    model, tokenizer = load(table.original)
    forget, retain = (_as_learnt(table, name) for name in (table.forget, table.retain))
    how = {"prompts": [], "controls": 0, **config.shared, **config.methods[method]}
    unlearn(model, forget, retain, method=method.split("+"), tokenizer=tokenizer, progress=progress, **how)
    return model, tokenizer


def _as_learnt(table: Published, name: str) -> Corpus:
    """A corpus as the original learnt it; every part has all of it, as the very rows that are forgotten are asked for."""
    if table.system is None:
        return corpus(name, split="all")
    rows = [
        {
            "messages": [
                {"role": "system", "content": table.system},
                {"role": "user", "content": one.prompt},
                {"role": "assistant", "content": one.answer},
            ],
            "chat_template_kwargs": dict(table.template),
        }
        for one in questions(name)
    ]
    return replace(corpus(rows, name=name), whole=True)
