"""How well a model predicts both corpora, how that compares with the original, and how far the comparison may be off."""

from pydantic import Field

from hf_untangle.arguments import checked_calls
from hf_untangle.evaluation.intervals import t_quantile
from hf_untangle.evaluation.next_token import relative_drop
from hf_untangle.records.base import Frozen, Metrics

SHOWN = 0.95
"""Confidence of the intervals that are shown."""


class Estimate(Frozen):
    """A mean over blocks, with its standard error."""

    value: float = Field(allow_inf_nan=False)
    error: float = Field(ge=0, allow_inf_nan=False)
    """Standard error over blocks."""
    blocks: int = Field(ge=2)

    def upper(self, confidence: float | None) -> float:
        """What the mean over all text of the kind is below.

        Args:
            confidence: With which probability; the mean itself is given when None.

        Returns:
            The bound, by Student's t with a degree of freedom less than there are blocks.
        """
        return self.value if confidence is None else self.value + t_quantile(confidence, self.blocks - 1) * self.error

    def interval(self, confidence: float = SHOWN) -> tuple[float, float]:
        """Where the mean over all text of the kind is.

        Args:
            confidence: With which probability.

        Returns:
            Both ends, as far from the mean.
        """
        high = self.upper((1 + confidence) / 2)
        return 2 * self.value - high, high


class Paired(Frozen):
    """What changed on one corpus, block by block beside the original on the same blocks.

    Where a budget was close, more blocks of retain were read than those that the metrics are of.
    """

    tokens: int = Field(ge=1)
    """How many tokens were predicted."""
    drop: Estimate
    """Relative drop of top-1 accuracy."""
    loss_rise: Estimate
    """Rise of the loss in nats per token, the logarithm of the factor by which perplexity grew."""
    disruption: Estimate | None = None
    """Mean KL(original || model) in nats per token, where it was measured."""


@checked_calls
class Scores(Frozen):
    """Next-token metrics of one model on held-out blocks of both corpora."""

    forget: Metrics
    retain: Metrics
    disruption: float | None = None
    """Mean KL(original || model) on the retain blocks, in nats per token; the largest one of several corpora; None where
    it was not measured."""

    members: tuple[tuple[str, Metrics], ...] = ()
    """Names and metrics of the corpora of a retain corpus that is several, where they were measured: each has the budget."""

    forget_paired: Paired | None = None
    """What changed on forget, with its error; None for the original itself, or where it was not measured beside it."""
    retain_paired: Paired | None = None
    """The same on retain, all of its corpora together."""
    members_paired: tuple[tuple[str, Paired], ...] = ()
    """The same on each of several retain corpora."""

    def forget_drop(self, base: "Scores") -> float:
        """Relative drop of top-1 accuracy on the forget corpus.

        Args:
            base: The scores of the original model.

        Returns:
            From 0, nothing is gone, to 1, all of it is.
        """
        return relative_drop(base.forget.top1, self.forget.top1)

    def retain_drop(self, base: "Scores") -> float:
        """Relative drop of top-1 accuracy on the retain corpus.

        Args:
            base: The scores of the original model.

        Returns:
            From 0, nothing is gone, to 1, all of it is; on all blocks that were read of either model.
        """
        paired = self.retain_paired
        return relative_drop(base.retain.top1, self.retain.top1) if paired is None else paired.drop.value

    def worst_retain_drop(self, base: "Scores") -> float:
        """Largest relative drop of top-1 accuracy among the retain corpora.

        Args:
            base: The scores of the original model.

        Returns:
            Of one corpus, its drop.
        """
        return max(
            relative_drop(before.top1, after.top1) if paired is None else paired.drop.value
            for before, after, paired in self.each_retain(base)
        )

    def worst_perplexity_factor(self, base: "Scores") -> float:
        """Largest factor by which perplexity grew among the retain corpora.

        Args:
            base: The scores of the original model.

        Returns:
            Of one corpus, its factor.
        """
        return max(after.perplexity / before.perplexity for before, after, _ in self.each_retain(base))

    def each_retain(self, base: "Scores") -> list[tuple[Metrics, Metrics, Paired | None]]:
        """Each retain corpus in the original model and in this one; all of it together where it was not measured by corpus.

        Args:
            base: The scores of the original model.

        Returns:
            The metrics of either, and what changed block by block, where that is known.
        """
        before, paired = dict(base.members), dict(self.members_paired)
        each = [(before[name], after, paired.get(name)) for name, after in self.members if name in before]
        return each or [(base.retain, self.retain, self.retain_paired)]

    def selectivity(self, base: "Scores") -> float:
        """Forget drop less retain drop: 1 when all of the capability went and nothing else did.

        Args:
            base: The scores of the original model.

        Returns:
            At most 1.
        """
        return self.forget_drop(base) - self.retain_drop(base)
