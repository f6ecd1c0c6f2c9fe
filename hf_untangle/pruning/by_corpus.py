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
from hf_untangle.records.unlearning import Comparison, CorpusScores


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
) -> dict[str, NextTokenMetrics]:
    """Measure a model as it is now on each of some corpora, but for members of retain: those are in every `Scores`.

    Args:
        model: The model, masked or not.
        corpora: What to measure.
        config: The settings.
        progress: Whether to show progress bars.

    Returns:
        The metrics, by use and name.
    """
    how = {"batch_size": config.batch_size, "progress": progress}
    return {_key(one): prediction_metrics(model, one.blocks, **how) for one in corpora if one.use != "retain"}


def scores_of_each(
    corpora: Iterable[OneCorpus],
    before: Mapping[str, NextTokenMetrics],
    after: Mapping[str, NextTokenMetrics],
    test: Comparison,
) -> tuple[CorpusScores, ...]:
    """Write down what was measured.

    Args:
        corpora: What was measured.
        before: The metrics of the original model.
        after: Those of the model that has unlearned.
        test: Both on the test parts, where members of retain are taken from.

    Returns:
        One record per corpus.
    """
    before, after = (
        {f"retain {name}": found for name, found in scores.members} | dict(others)
        for scores, others in ((test.before, before), (test.after, after))
    )
    return tuple(
        CorpusScores(use=one.use, name=one.name, corpus=one.blocks.record(), before=before[_key(one)], after=after[_key(one)])
        for one in corpora
    )


def _key(one: OneCorpus) -> str:
    """What its metrics are found under."""
    return f"{one.use} {one.name}"


def members_of(blocks: Blocks) -> Mapping[str, Blocks]:
    """Find the blocks of each of several corpora.

    Args:
        blocks: Any blocks.

    Returns:
        The blocks of each by its name; nothing where they are of one corpus.
    """
    return blocks.by_member() if isinstance(blocks, TokenBlocks) else {}
