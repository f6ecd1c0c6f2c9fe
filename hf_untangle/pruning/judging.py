"""Judging a model on held-out blocks of both corpora, beside the original on the same blocks.

What changed is measured block by block, so that a budget is judged with its standard error. Where a budget lies inside the
interval of a change, more blocks of retain are read, twice as many each time; elsewhere they cost nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batch_size import BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.block_sums import BlockSums
from hf_untangle.evaluation.next_token import metrics_of
from hf_untangle.evaluation.prediction import prediction_sums
from hf_untangle.progress import plan_work
from hf_untangle.pruning.budget import is_close
from hf_untangle.pruning.measuring import References, Sums, joined, measure, measure_original, measure_retain, paired, parts_of
from hf_untangle.pruning.step import Pair
from hf_untangle.records.scores import Scores


@dataclass(frozen=True, eq=False)
class Origin:
    """The original model on the validation parts: what budgets are relative to."""

    scores: Scores
    sums: Sums
    """The same block by block, to be paired with those of a changed model."""
    references: References | None = None
    """What it predicted of the retain blocks, where disruption is measured."""


def origin_on(model: PreTrainedModel, pair: Pair, *, batch_size: BatchSize, progress: bool, disruption: bool = False) -> Origin:
    """Measure the original model.

    Args:
        model: The model before any change.
        pair: Blocks of both corpora.
        batch_size: Blocks in a forward pass.
        progress: Whether to show progress bars.
        disruption: Whether to keep its predictions of retain, so that disruption can be measured.

    Returns:
        What later measurements are relative to.

    Raises:
        ConfigError: Disruption is to be measured of another task than predicting the next token.
    """
    if not disruption:
        sums = measure(model, pair, batch_size=batch_size, progress=progress)
        return Origin(scores_of(sums, pair), sums)
    forget = prediction_sums(model, pair.forget, batch_size=batch_size, progress=progress)
    retain, references = measure_original(model, tuple(parts_of(pair.retain).values()), batch_size)
    sums = Sums(forget, retain)
    return Origin(scores_of(sums, pair), sums, references)


def judge(
    model: PreTrainedModel, held_out: Pair, *, batch_size: BatchSize, progress: bool, origin: Origin | None = None
) -> Scores:
    """Measure a model on held-out blocks of both corpora.

    Args:
        model: The model, masked or not.
        held_out: The blocks.
        batch_size: Blocks in a forward pass.
        progress: Whether to show progress bars.
        origin: The original on the same blocks, to say what changed, with its error.

    Returns:
        The scores.
    """
    references = None if origin is None else origin.references
    found = measure(model, held_out, batch_size=batch_size, progress=progress, references=references)
    return scores_of(found, held_out, origin)


class Judge:
    """Judges a model on the validation parts, and reads more of retain where a budget is close."""

    def __init__(
        self, model: PreTrainedModel, validation: Pair, config: UnlearnConfig, *, origin: Origin | None, progress: bool
    ) -> None:
        """Measure the original model, unless that was done.

        Args:
            model: The model, which is the original whenever it is not changed for a judgement.
            validation: Blocks of both corpora.
            config: The settings.
            origin: The original, where another method has changed the model already: it cannot be measured on more blocks then.
            progress: Whether to show progress bars.

        Raises:
            ConfigError: A budget with confidence has too few blocks to be judged.
        """
        self._model, self._validation, self._config = model, validation, config
        self._how: dict[str, Any] = {"batch_size": config.batch_size, "progress": progress}
        self._disruption = config.disruption_budget is not None
        self._chunks = [] if origin is not None else _chunks(validation, config.evaluation_doublings)
        self._read: list[_Original] = []
        self.origin = origin or origin_on(model, validation, **self._how, disruption=self._disruption)
        check_blocks(self.origin, config)

    def __call__(self, changed: Callable[[], AbstractContextManager[Any]]) -> Scores:
        """Judge a change of the model.

        Args:
            changed: A context in which the model is changed; it is entered again where more is read.

        Returns:
            The scores, whose comparison with the original is of all blocks that were read.
        """
        with changed():
            found = measure(self._model, self._validation, **self._how, references=self.origin.references)
        scores = scores_of(found, self._validation, self.origin)
        now, before = found.retain, self.origin.sums.retain
        for number, chunk in enumerate(self._chunks):
            if not is_close(scores, self.origin.scores, self._config):
                break
            original = self._original(number)
            plan_work({"forward": _tokens(chunk)})
            with changed():
                more = measure_retain(self._model, chunk, **self._how, references=original.references)
            now, before = joined(now, more), joined(before, original.sums)
            scores = scores_of(Sums(found.forget, now), self._validation, self.origin, before, of=found)
        return scores

    def once(self, changed: Callable[[], AbstractContextManager[Any]]) -> Scores:
        """Measure a change of the model that no budget is for, such as a random mask.

        Args:
            changed: A context in which the model is changed.

        Returns:
            The scores.
        """
        with changed():
            return judge(self._model, self._validation, **self._how, origin=self.origin)

    def _original(self, number: int) -> "_Original":
        """The original on further blocks, which are read when they are first needed."""
        while len(self._read) <= number:
            chunk = self._chunks[len(self._read)]
            plan_work({"forward": _tokens(chunk)})
            if self._disruption:
                self._read.append(_Original(*measure_original(self._model, chunk, self._config.batch_size)))
            else:
                self._read.append(_Original(measure_retain(self._model, chunk, **self._how), None))
        return self._read[number]


@dataclass(frozen=True, eq=False)
class _Original:
    """The original on further blocks of retain."""

    sums: tuple[BlockSums, ...]
    references: References | None


def scores_of(
    found: Sums,
    held_out: Pair,
    origin: Origin | None = None,
    before: tuple[BlockSums, ...] | None = None,
    of: Sums | None = None,
) -> Scores:
    """Make scores of what was measured.

    Args:
        found: The sums of a model.
        held_out: The blocks that they are of.
        origin: The original on the same blocks; None where nothing is to be compared.
        before: The original on the retain blocks, where more were read than it was measured on first.
        of: Sums on the blocks that it was measured on first, which metrics are of; `found` when None.

    Returns:
        The scores.
    """
    of, names = of or found, tuple(parts_of(held_out.retain))
    members = [(name, metrics_of(one.total, name)) for name, one in zip(names, of.retain, strict=True)]
    disruptions = [one.disruption for one in found.retain if one.disruption is not None]
    scores = Scores(
        forget=metrics_of(of.forget.total, held_out.forget.corpus.name),
        retain=metrics_of(BlockSums.joined(of.retain).total, held_out.retain.corpus.name),
        disruption=max(disruptions, default=None),
        members=tuple(members) if len(members) > 1 else (),
    )
    if origin is None:
        return scores
    before = before or origin.sums.retain
    each = [(name, paired(one, other)) for name, one, other in zip(names, found.retain, before, strict=True)]
    return scores.model_copy(
        update={
            "forget_paired": paired(found.forget, origin.sums.forget),
            "retain_paired": paired(BlockSums.joined(found.retain), BlockSums.joined(before)),
            "members_paired": tuple((name, one) for name, one in each if one is not None) if len(each) > 1 else (),
        }
    )


def check_blocks(origin: Origin, config: UnlearnConfig) -> None:
    """Refuse a budget with confidence where there are too few blocks to tell how far a judgement may be off.

    Args:
        origin: The original on the validation parts.
        config: The settings.

    Raises:
        ConfigError: A retain corpus has a single block.
    """
    fewest = min(len(one.tokens) for one in origin.sums.retain)
    if config.budget_confidence is not None and fewest < 2:
        raise ConfigError(
            f"budget_confidence needs at least two held-out blocks of every retain corpus, got {fewest}. Give more "
            "evaluation_tokens, a smaller block_size, or a larger corpus."
        )


def _chunks(validation: Pair, doublings: int) -> list[tuple[Blocks | None, ...]]:
    """Further blocks of every retain corpus: each time as many as were read before, as long as there are some."""
    found: list[tuple[Blocks | None, ...]] = []
    first = [len(one.counted) for one in parts_of(validation.retain).values()]
    for number in range(doublings if validation.further else 0):
        sizes = [2**number * count for count in first]
        starts = [size - count for size, count in zip(sizes, first, strict=True)]
        chunk = tuple(
            None if blocks is None or len(blocks.counted) <= start else blocks.rows(slice(start, start + size))
            for blocks, start, size in zip(validation.further, starts, sizes, strict=True)
        )
        if all(one is None for one in chunk):
            break
        found.append(chunk)
    return found


def _tokens(parts: Sequence[Blocks | None]) -> int:
    """Tokens of some blocks that this process reads."""
    return sum(one.mine().tokens for one in parts if one is not None)
