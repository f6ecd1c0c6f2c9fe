"""Every corpus by itself: the members of a corpus that is several, and what else a run measures, such as paraphrases."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batch_size import BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.data.tokens import TokenBlocks
from hf_untangle.evaluation.next_token import NextTokenMetrics
from hf_untangle.evaluation.prediction import prediction_metrics
from hf_untangle.pruning.step import Pair
from hf_untangle.records.unlearning import CorpusScores


@dataclass(frozen=True, eq=False)
class OneCorpus:
    """One corpus that is measured by itself."""

    use: Literal["forget", "retain", "also"]
    name: str
    blocks: Blocks


def by_themselves(test: Pair, also: Mapping[str, Blocks]) -> tuple[OneCorpus, ...]:
    """Find what is to be measured by itself.

    Args:
        test: The test parts of both corpora.
        also: Other blocks, by name.

    Returns:
        The members of each corpus that is several, and the others; nothing where there is neither.
    """
    forget = (OneCorpus("forget", name, blocks) for name, blocks in _members(test.forget).items())
    retain = (OneCorpus("retain", name, blocks) for name, blocks in _members(test.retain).items())
    return (*forget, *retain, *(OneCorpus("also", name, blocks) for name, blocks in also.items()))


def metrics_of_each(
    model: PreTrainedModel, corpora: Iterable[OneCorpus], config: UnlearnConfig, *, progress: bool
) -> tuple[NextTokenMetrics, ...]:
    """Measure a model as it is now on each of some corpora.

    Args:
        model: The model, masked or not.
        corpora: What to measure.
        config: The settings.
        progress: Whether to show progress bars.

    Returns:
        The metrics, in order.
    """
    how = {"batch_size": config.batch_size, "progress": progress}
    return tuple(prediction_metrics(model, one.blocks, **how) for one in corpora)


def metrics_by_member(
    model: PreTrainedModel, blocks: Blocks, *, batch_size: BatchSize, progress: bool
) -> tuple[NextTokenMetrics, dict[str, NextTokenMetrics]]:
    """Measure a model on some blocks, and on those of each corpus that they are of, in one pass over all of them.

    Args:
        model: The model, masked or not.
        blocks: The blocks.
        batch_size: Blocks in a forward pass.
        progress: Whether to show progress bars.

    Returns:
        The metrics of all blocks, and those of each corpus by name; none where there is one corpus.
    """
    how = {"batch_size": batch_size, "progress": progress}
    members = {name: prediction_metrics(model, one, **how) for name, one in _members(blocks).items()}
    if not members:
        return prediction_metrics(model, blocks, **how), {}
    tokens = sum(one.tokens for one in members.values())
    means = {
        what: sum(one.tokens * getattr(one, what) for one in members.values()) / tokens for what in ("top1", "top10", "loss")
    }
    return NextTokenMetrics(tokens, **means), members


def scores_of_each(
    corpora: Iterable[OneCorpus], before: Iterable[NextTokenMetrics], after: Iterable[NextTokenMetrics]
) -> tuple[CorpusScores, ...]:
    """Write down what was measured.

    Args:
        corpora: What was measured.
        before: The metrics of the original model.
        after: Those of the model that has unlearned.

    Returns:
        One record per corpus.
    """
    return tuple(
        CorpusScores(use=one.use, name=one.name, corpus=one.blocks.record(), before=first, after=last)
        for one, first, last in zip(corpora, before, after, strict=True)
    )


def _members(blocks: Blocks) -> Mapping[str, Blocks]:
    """The blocks of each of several corpora; nothing where they are of one."""
    return blocks.by_member() if isinstance(blocks, TokenBlocks) else {}
