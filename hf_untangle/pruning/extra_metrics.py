"""Metrics of a result that were asked for, on the test parts of both corpora."""

from collections.abc import Sequence
from typing import Any, Unpack, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.data.batches import TokenBlocks
from hf_untangle.evaluation.evaluate import Evaluation, evaluate
from hf_untangle.evaluation.keywords import EvaluationSettings
from hf_untangle.evaluation.score_cache import EvaluationConfig
from hf_untangle.pruning.step import Pair
from hf_untangle.records.unlearning import MetricsRecord


def ask(
    model: PreTrainedModel,
    original: PreTrainedModel | None,
    held_out: Pair,
    metrics: Sequence[str],
    *,
    config: EvaluationConfig | str = "default",
    tokenizer: PreTrainedTokenizerBase,
    progress: bool,
    **settings: Unpack[EvaluationSettings],
) -> MetricsRecord:
    """Measure metrics of both corpora, before and after.

    Args:
        model: The model after unlearning.
        original: The model before it, where it is at hand.
        held_out: The test parts of both corpora.
        metrics: Names of `FEEDS`.
        config: Settings, or the name of a preset.
        tokenizer: The tokenizer of both models.
        progress: Whether to show progress bars.
        **settings: Fields of `EvaluationConfig` that override `config`.

    Returns:
        The numbers, with the settings.
    """

    def of(which: PreTrainedModel, blocks: Any) -> Evaluation:
        corpus = cast(TokenBlocks, blocks).corpus
        return evaluate(which, corpus, metrics=metrics, config=config, tokenizer=tokenizer, progress=progress, **settings)

    forget, retain = of(model, held_out.forget), of(model, held_out.retain)
    before = {} if original is None else {"forget_before": of(original, held_out.forget).values}
    if original is not None:
        before["retain_before"] = of(original, held_out.retain).values
    return MetricsRecord(settings=forget.config.model_dump(), forget=forget.values, retain=retain.values, **before)
