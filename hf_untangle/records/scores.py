"""How well a model predicts both corpora, and how that compares with the original."""

from hf_untangle.evaluation.next_token import relative_drop
from hf_untangle.records.base import Frozen, Metrics


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
        before = dict(base.members)
        drops = [relative_drop(before[name].top1, one.top1) for name, one in self.members if name in before]
        return max(drops, default=self.retain_drop(base))

    def worst_perplexity_factor(self, base: "Scores") -> float:
        """Largest factor by which perplexity grew among the retain corpora.

        Args:
            base: The scores of the original model.

        Returns:
            Of one corpus, its factor.
        """
        before = dict(base.members)
        factors = [one.perplexity / before[name].perplexity for name, one in self.members if name in before]
        return max(factors, default=self.retain.perplexity / base.retain.perplexity)

    def selectivity(self, base: "Scores") -> float:
        """Forget drop less retain drop: 1 when all of the capability went and nothing else did.

        Args:
            base: The scores of the original model.

        Returns:
            At most 1.
        """
        return self.forget_drop(base) - self.retain_drop(base)
