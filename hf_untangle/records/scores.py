"""How well a model predicts both corpora, and how that compares with the original."""

from hf_untangle.arguments import checked_calls
from hf_untangle.evaluation.next_token import relative_drop
from hf_untangle.records.base import Frozen, Metrics


@checked_calls
class Scores(Frozen):
    """Next-token metrics of one model on held-out blocks of both corpora."""

    forget: Metrics
    retain: Metrics
    disruption: float | None = None
    """Mean KL(original || model) on the retain blocks, in nats per token; None where it was not measured."""

    members: tuple[tuple[str, Metrics], ...] = ()
    """Names and metrics of the corpora of a retain corpus that is several, where they were measured: each has the budget."""

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
            From 0, nothing is gone, to 1, all of it is.
        """
        return relative_drop(base.retain.top1, self.retain.top1)

    def worst_retain_drop(self, base: "Scores") -> float:
        """Largest relative drop of top-1 accuracy among the retain corpora.

        Args:
            base: The scores of the original model.

        Returns:
            Of one corpus, its drop.
        """
        return max(relative_drop(before.top1, after.top1) for before, after in self._each_retain(base))

    def worst_perplexity_factor(self, base: "Scores") -> float:
        """Largest factor by which perplexity grew among the retain corpora.

        Args:
            base: The scores of the original model.

        Returns:
            Of one corpus, its factor.
        """
        return max(after.perplexity / before.perplexity for before, after in self._each_retain(base))

    def _each_retain(self, base: "Scores") -> list[tuple[Metrics, Metrics]]:
        """Each retain corpus in the original model and in this one; all of it together where it was not measured by corpus."""
        before = dict(base.members)
        return [(before[name], after) for name, after in self.members if name in before] or [(base.retain, self.retain)]

    def selectivity(self, base: "Scores") -> float:
        """Forget drop less retain drop: 1 when all of the capability went and nothing else did.

        Args:
            base: The scores of the original model.

        Returns:
            At most 1.
        """
        return self.forget_drop(base) - self.retain_drop(base)
