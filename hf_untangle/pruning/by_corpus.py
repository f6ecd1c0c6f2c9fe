"""Every corpus by itself: the members of a corpus that is several, and what else a run measures, such as paraphrases."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel

from hf_untangle.configs.unlearn import UnlearnConfig
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
    forget = (OneCorpus("forget", name, blocks) for name, blocks in members_of(test.forget).items())
    retain = (OneCorpus("retain", name, blocks) for name, blocks in members_of(test.retain).items())
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


def members_of(blocks: Blocks) -> Mapping[str, Blocks]:
    """Find the blocks of each of several corpora.

    Args:
        blocks: Any blocks.

    Returns:
        The blocks of each by its name; nothing where they are of one corpus.
    """
    return blocks.by_member() if isinstance(blocks, TokenBlocks) else {}
