"""Sums over predictions, block by block: what metrics are means of, and what paired comparisons of two models are made from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True, eq=False)
class BlockSums:
    """What a model does on each of some blocks, as sums over the predictions of the block."""

    sums: Float[Tensor, "block 4"]
    """Hits among the first and the first ten, summed loss in nats, and number of predictions."""
    divergence: Float[Tensor, " block"] | None = None
    """Summed KL(original || model) in nats; None where it was not measured."""

    @property
    def total(self) -> Float[Tensor, " 4"]:
        """The sums over all blocks."""
        return self.sums.sum(0)

    @property
    def hits(self) -> Float[Tensor, " block"]:
        """Predictions that are the most likely one."""
        return self.sums[:, 0]

    @property
    def loss(self) -> Float[Tensor, " block"]:
        """Cross-entropy in nats."""
        return self.sums[:, 2]

    @property
    def tokens(self) -> Float[Tensor, " block"]:
        """Number of predictions."""
        return self.sums[:, 3]

    @property
    def disruption(self) -> float | None:
        """Mean KL(original || model) per prediction in nats, where it was measured."""
        if self.divergence is None:
            return None
        return max(0.0, float(self.divergence.sum() / self.tokens.sum()))

    @staticmethod
    def joined(parts: "Sequence[BlockSums]") -> "BlockSums":
        """Put the blocks of several measurements of one model one after another.

        Args:
            parts: All with the divergence, or all without.

        Returns:
            All blocks, in order.
        """
        divergences = [one.divergence for one in parts if one.divergence is not None]
        return BlockSums(torch.cat([one.sums for one in parts]), torch.cat(divergences) if divergences else None)


def scored(logits: Float[Tensor, "prediction vocabulary"], labels: Int[Tensor, " prediction"]) -> Float[Tensor, "prediction 4"]:
    """Measure how well each of some predictions fits.

    Args:
        logits: One row per prediction.
        labels: What each should be.

    Returns:
        Whether it is the first, whether it is among the first ten, its loss in nats, and 1, for the number of predictions.
    """
    logits = logits.float()
    best = logits.topk(min(10, logits.shape[-1]), dim=-1).indices
    hits = best == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="none")
    return torch.stack([hits[:, 0], hits.any(1), loss, torch.ones_like(loss)], 1)


def sums_of(logits: Float[Tensor, "prediction vocabulary"], labels: Int[Tensor, " prediction"]) -> Float[Tensor, " metric"]:
    """Sum up how well some predictions fit.

    Args:
        logits: One row per prediction.
        labels: What each should be.

    Returns:
        Hits among the first and the first ten, summed loss, and number of predictions.
    """
    return scored(logits, labels).double().sum(0)


def by_block(where: Bool[Tensor, "block position"], parts: list[Float[Tensor, "_ metric"]]) -> Float[Tensor, "block metric"]:
    """Sum predictions up block by block.

    Args:
        where: The positions that predict something.
        parts: A row for each of them, block by block, in parts.

    Returns:
        A row per block.
    """
    rows = torch.cat(parts).double()
    return torch.zeros(len(where), rows.shape[1], dtype=torch.float64).index_add_(0, where.cpu().nonzero()[:, 0], rows)
