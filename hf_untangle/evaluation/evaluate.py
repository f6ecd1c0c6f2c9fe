"""Measure a model with one call: metrics on a corpus or on prompts and answers, and tasks of lm-eval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Unpack, cast

from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.data.corpora import corpus as open_corpus
from hf_untangle.data.questions import QuestionSource, questions
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.display import notebook_html, rows_table, short_repr, table_text
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.keywords import EvaluationSettings
from hf_untangle.evaluation.lm_eval_tasks import task_results
from hf_untangle.evaluation.metric_inputs import FEEDS
from hf_untangle.evaluation.score_cache import EvaluationConfig, Material
from hf_untangle.metrics.registry import METRICS

ON_TEXT = ("top_k_accuracy", "perplexity")
ON_PAIRS = ("answer_probability", "exact_memorization", "extraction_strength")


@checked_calls
@dataclass(frozen=True)
class Evaluation:
    """What came out, and of what."""

    model: str
    """Name or path of the model."""
    sources: dict[str, str]
    """What it was judged on: `corpus`, `pairs` and `holdout`, those that there were."""
    values: dict[str, int | float]
    """Every number by name; `docs/how-to/evidence.md` says what each is."""
    tasks: dict[str, dict[str, float]]
    """The numbers of each lm-eval task."""
    config: EvaluationConfig
    """How much was read."""
    __repr__ = short_repr
    _repr_html_ = notebook_html

    def describe(self) -> str:
        """Say what was measured on what, then every number."""
        what = ", ".join(f"{use} {name}" for use, name in self.sources.items()) or "no corpus"
        count = len(self.values) + sum(map(len, self.tasks.values()))
        return f"{count} numbers of {self.model} on {what}\n\n{table_text(self.table())}"

    def table(self) -> Table:
        """Lay every number out."""
        numbers = [
            *self.values.items(),
            *((f"{task}: {name}", one) for task, own in self.tasks.items() for name, one in own.items()),
        ]
        return rows_table(
            ("metric", "value"), ((name, f"{value:,}" if isinstance(value, int) else f"{value:.4g}") for name, value in numbers)
        )

    def record(self) -> dict[str, Any]:
        """Everything, as values that JSON can hold."""
        return asdict(self) | {"config": self.config.model_dump()}


@checked_arguments
@all_or_nothing
def evaluate(  # noqa: PLR0913 (one parameter for each thing that can be judged on)
    model: PreTrainedModel | ModelName,
    corpus: CorpusSource | None = None,
    *,
    metrics: Sequence[str] | None = None,
    pairs: QuestionSource | None = None,
    holdout: CorpusSource | None = None,
    tasks: Sequence[str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    config: EvaluationConfig | str = "default",
    progress: bool = True,
    **settings: Unpack[EvaluationSettings],
) -> Evaluation:
    """Measure what a model can do.

    Everything that metrics need is asked of the model once, in batches, whatever the number of metrics. Several processes share
    the work, and all of them get the result. The model is left as it was.

    Args:
        model: A causal language model, masked or not. A name or path is loaded.
        corpus: Running text. Where no pairs are passed, the second halves of its documents are the answers to the first.
        metrics: Names of `FEEDS`; when None, accuracy and perplexity on a corpus, and what is known by heart of pairs.
        pairs: Prompts with answers, see `questions`: a table, a dataset or mappings.
        holdout: Text of the same kind that the model was not trained on, for `membership_auc`.
        tasks: Tasks of lm-eval, such as `arc_easy`; they need the extra `eval`, and most of them the network.
        tokenizer: The model's tokenizer; found by the model's name when None.
        config: Settings, or the name of a preset.
        progress: Whether to show progress bars.
        **settings: Fields of `EvaluationConfig` that override `config`, such as `tokens`, `part` or `prompts`.

    Returns:
        Every number by name.

    Raises:
        ConfigError: A metric or a setting is unknown, what a metric needs was not passed, or the model writes no text.
        CorpusError: A corpus or the pairs cannot be read.
        MissingExtraError: Tasks were asked for where lm-eval is not installed.
    """
    config = EvaluationConfig.resolve(config, **settings)
    model = cast(PreTrainedModel, model_below(opened(model)))
    names = _names(metrics, corpus is not None, pairs is not None, bool(tasks))
    if not model.can_generate():
        raise ConfigError(f"Metrics of next tokens need a causal language model, got {type(model).__name__}.")
    text, held_out = (None if one is None else open_corpus(one) for one in (corpus, holdout))
    asked = () if pairs is None else questions(pairs)
    found = find_tokenizer(model, tokenizer)
    material = Material(model, found, config, corpus=text, pairs=asked, holdout=held_out, progress=progress)
    values: dict[str, int | float] = {}
    for name in names:
        values |= _computed(name, material)
    sources = {"corpus": text, "holdout": held_out}
    return Evaluation(
        model=str(model.name_or_path),
        sources={use: one.source for use, one in sources.items() if one} | ({"pairs": f"{len(asked)} pairs"} if asked else {}),
        values=values,
        tasks=task_results(model, found, tasks, limit=config.limit, batch_size=config.batch_size) if tasks else {},
        config=config,
    )


def check_metrics(names: Sequence[str]) -> None:
    """Refuse metrics that do not exist, before anything long begins.

    Args:
        names: What was asked for.

    Raises:
        ConfigError: One of them is not among `FEEDS`.
    """
    for name in names:
        if name not in FEEDS:
            raise ConfigError(f"A metric must be one of {', '.join(FEEDS)}, got `{name}`.")


def _names(metrics: Sequence[str] | None, has_text: bool, has_pairs: bool, has_tasks: bool) -> Sequence[str]:
    """Which metrics are asked for."""
    if not (has_text or has_pairs or has_tasks):
        raise ConfigError("A model must be judged on something, got nothing. Pass a corpus, pairs= or tasks=.")
    if metrics is not None and not metrics and not has_tasks:
        raise ConfigError(f"`metrics` must name at least one of {', '.join(FEEDS)}, got none. Leave it out for the usual ones.")
    check_metrics(metrics or ())
    if metrics is not None:
        return list(dict.fromkeys(metrics))
    return (ON_TEXT if has_text else ()) + (ON_PAIRS if has_pairs else ())


def _computed(name: str, material: Material) -> dict[str, int | float]:
    """The numbers of one metric."""
    feed = FEEDS[name]
    result: dict[str, Any] = METRICS[feed.metric].compute(**feed.columns(material))
    return {feed.called.get(key, key): value for key, value in result.items() if not isinstance(value, list)}
