"""How far a model's predictions are from what they were: KL(original || model), with no second model in memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode, without_gradients
from hf_untangle.architecture.offload import input_device
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.evaluation.block_sums import BlockSums, by_block, scored
from hf_untangle.evaluation.next_token import NextTokenMetrics, logits_and_labels, metrics_of

TOP = 1024
"""Log-probabilities that are kept per predicted token; all other tokens share one bucket, whose probability is exact."""

ROUNDING = 1e-6
"""Probabilities in float32 add up to 1 within this."""


@dataclass(frozen=True, eq=False)
class TopLogits:
    """The distribution over next tokens, exact for its most likely tokens and for all others together."""

    indices: Int[Tensor, "prediction top"]
    """Tokens in int32, the one that follows in the text among them."""
    log_probabilities: Float[Tensor, "prediction top"]
    """Natural logarithms of their probabilities."""

    @classmethod
    def of(
        cls, logits: Float[Tensor, "prediction vocabulary"], tokens: Int[Tensor, " prediction"], top: int = TOP
    ) -> "TopLogits":
        """Keep the largest logits.

        Args:
            logits: What a model predicts.
            tokens: What follows in the text, which is always kept.
            top: How many tokens to keep per prediction; all of a smaller vocabulary.

        Returns:
            Copies that hold no graph.
        """
        log_p = logits.detach().float().log_softmax(-1)
        indices = log_p.topk(min(top, log_p.shape[-1]), dim=-1).indices
        missing = ~(indices == tokens[:, None]).any(-1)
        indices[missing, -1] = tokens[missing]
        return cls(indices.int(), log_p.gather(-1, indices))

    @staticmethod
    def joined(parts: Sequence["TopLogits"]) -> "TopLogits":
        """Put the predictions of several rows or batches one after another.

        Args:
            parts: Those of each.

        Returns:
            All of them, in order.
        """
        return TopLogits(torch.cat([one.indices for one in parts]), torch.cat([one.log_probabilities for one in parts]))

    def rows(self, part: slice | Int[Tensor, " n"]) -> "TopLogits":
        """Some of the predictions.

        Args:
            part: Which.

        Returns:
            Those.
        """
        return TopLogits(self.indices[part], self.log_probabilities[part])

    def to(self, device: torch.device) -> "TopLogits":
        """The same on another device.

        Args:
            device: Where to.

        Returns:
            Copies, where it is another device.
        """
        return TopLogits(self.indices.to(device), self.log_probabilities.to(device))

    def demoted(self, tokens: Int[Tensor, " prediction"], by: int | float) -> "TopLogits":
        """The distribution after the logit of one token is lowered, as UNDIAL asks its teacher (arXiv:2402.10052).

        Args:
            tokens: Which token of every prediction.
            by: How much its logit is lowered.

        Returns:
            The distribution, normalised again.
        """
        lowered = self.log_probabilities - by * (self.indices == tokens[:, None])
        total = torch.cat([lowered, self._rest()[:, None]], -1).logsumexp(-1, keepdim=True)
        return TopLogits(self.indices, lowered - total)

    def cross_entropy(self, logits: Float[Tensor, "prediction vocabulary"]) -> Float[Tensor, " prediction"]:
        """Cross-entropy of a model's predictions against this distribution, in nats.

        Tokens outside `indices` count as one: where all are inside it is exact, and otherwise a lower bound.

        Args:
            logits: What the model predicts.

        Returns:
            -sum p log q for every prediction.
        """
        log_q = logits.float().log_softmax(-1).gather(-1, self.indices.long())
        inside = -(self.log_probabilities.exp() * log_q).sum(-1)
        rest = self._rest()
        return inside - torch.where(rest > -math.inf, rest.exp() * _log_of_rest(log_q), 0)

    def entropy(self) -> Float[Tensor, " prediction"]:
        """Entropy of this distribution in nats, where tokens outside `indices` count as one."""
        rest = self._rest()
        of_rest = torch.where(rest > -math.inf, rest.exp() * rest, 0)
        return -(self.log_probabilities.exp() * self.log_probabilities).sum(-1) - of_rest

    def divergence(self, logits: Float[Tensor, "prediction vocabulary"]) -> Float[Tensor, " prediction"]:
        """KL(this || model) in nats: exact where all tokens are kept, otherwise a lower bound, by the grouping of the rest.

        Args:
            logits: What the model predicts.

        Returns:
            One number per prediction.
        """
        return self.cross_entropy(logits) - self.entropy()

    def _rest(self) -> Float[Tensor, " prediction"]:
        """Log-probability of all other tokens together, minus infinity where there are none."""
        rest = _log_of_rest(self.log_probabilities)
        return torch.where(rest > math.log(ROUNDING), rest, -math.inf)


def _log_of_rest(log_p: Float[Tensor, "prediction top"]) -> Float[Tensor, " prediction"]:
    """log(1 - sum p), finite also where rounding leaves nothing, so that gradients are."""
    return (1 - log_p.double().exp().sum(-1)).clamp(min=ROUNDING).log().float()


def reference_predictions(model: PreTrainedModel, blocks: TokenBlocks, *, batch_size: int, top: int = TOP) -> TopLogits:
    """Keep what a model predicts of some blocks.

    Args:
        model: The original model, or any with its adapter disabled.
        blocks: The tokens.
        batch_size: Blocks in a forward pass.
        top: Tokens that are kept per prediction.

    Returns:
        The predictions of all blocks, in order, on the CPU.
    """
    return reference_sums(model, blocks, batch_size=batch_size, top=top)[1]


def reference_sums(
    model: PreTrainedModel, blocks: TokenBlocks, *, batch_size: int, top: int = TOP
) -> tuple[BlockSums, TopLogits]:
    """Measure next-token metrics and keep what the model predicts, in one pass.

    Args:
        model: The original model.
        blocks: The tokens.
        batch_size: Blocks in a forward pass.
        top: Tokens that are kept per prediction.

    Returns:
        Sums per block, and the predictions of all blocks, in order, on the CPU.
    """
    rows, kept = [], []
    with blocks.bar("predictions on", progress=False) as bar, evaluation_mode(model), without_gradients(model):
        for batch in blocks.batches(batch_size):
            found = []
            for logits, labels in _predicted(model, batch):
                found.append(scored(logits, labels).cpu())
                kept.append(TopLogits.of(logits, labels, top).to(torch.device("cpu")))
            rows.append(by_block(batch.queries()[0], found))
            bar.update(batch.tokens)
    return BlockSums(torch.cat(rows)), TopLogits.joined(kept)


def divergence_sums(model: PreTrainedModel, blocks: TokenBlocks, reference: TopLogits, *, batch_size: int) -> BlockSums:
    """Measure next-token metrics and the divergence from the original in one pass, block by block.

    Args:
        model: The model as it is now.
        blocks: The blocks that the reference is of.
        reference: What the original predicted of them.
        batch_size: Blocks in a forward pass.

    Returns:
        Sums per block. KL is exact where the whole vocabulary was kept, otherwise a lower bound, since unlikely tokens are
        grouped.
    """
    rows, start = [], 0
    with blocks.bar("evaluation on", progress=False) as bar, evaluation_mode(model), without_gradients(model):
        for batch in blocks.batches(batch_size):
            found = []
            for logits, labels in _predicted(model, batch):
                before = reference.rows(slice(start, start + len(labels))).to(logits.device)
                found.append(torch.cat([scored(logits, labels), before.divergence(logits)[:, None]], 1).cpu())
                start += len(labels)
            rows.append(by_block(batch.queries()[0], found))
            bar.update(batch.tokens)
    whole = torch.cat(rows)
    return BlockSums(whole[:, :4], whole[:, 4])


def metrics_and_divergence(
    model: PreTrainedModel, blocks: TokenBlocks, reference: TopLogits, *, batch_size: int
) -> tuple[NextTokenMetrics, float]:
    """Measure next-token metrics and the divergence from the original in one pass.

    Args:
        model: The model as it is now.
        blocks: The blocks that the reference is of.
        reference: What the original predicted of them.
        batch_size: Blocks in a forward pass.

    Returns:
        The metrics, and mean KL(original || model) per token in nats, as `divergence_sums` has it.
    """
    found = divergence_sums(model, blocks, reference, batch_size=batch_size)
    return metrics_of(found.total, blocks.corpus.name), cast(float, found.disruption)


def _predicted(model: PreTrainedModel, batch: TokenBlocks) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and labels of a batch, a few tokens at a time."""
    device = input_device(model)
    where, tokens = batch.queries()
    return logits_and_labels(model, batch.inputs(device), where.to(device), tokens.to(device))
