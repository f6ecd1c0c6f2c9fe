"""What the original model predicted, kept instead of the model: one number per row, or the largest logits of every token."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode, uncached
from hf_untangle.architecture.offload import input_device
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.methods.predictions import Predictions

TOP = 1024
"""Logits that are kept per predicted token; all others share one bucket, whose probability is exact."""

ROUNDING = 1e-6
"""Probabilities in float32 add up to 1 within this."""


@dataclass(frozen=True, eq=False)
class TopLogits:
    """The distribution over next tokens, exact for its most likely tokens and for all others together."""

    indices: Int[Tensor, "prediction top"]
    """Tokens, the one that follows in the text among them."""
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
        return cls(indices, log_p.gather(-1, indices))

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
        log_q = logits.float().log_softmax(-1).gather(-1, self.indices)
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


def predictions_of(model: PreTrainedModel, batch: TokenBlocks) -> Predictions:
    """Run a model on a batch.

    Args:
        model: A causal language model.
        batch: The rows.

    Returns:
        What it predicts, with a graph where gradients are recorded.
    """
    logits = model(**batch.inputs(input_device(model)), **uncached(model)).logits
    return Predictions.of(logits, batch.labels())


@torch.no_grad()
def reference_losses(model: PreTrainedModel, blocks: TokenBlocks, *, per_token: bool, batch_size: int) -> Float[Tensor, " row"]:
    """Compute the negative log-probability of every row under the model as it is now.

    Args:
        model: The model before unlearning, or with its adapter disabled.
        blocks: The rows.
        per_token: Whether to divide by the number of counted tokens.
        batch_size: Rows in a forward pass.

    Returns:
        One number per row, on the CPU, which is all that NPO and DPO need of a reference model.
    """
    with evaluation_mode(model):
        found = [predictions_of(model, batch).row_losses(per_token=per_token).cpu() for batch in blocks.batches(batch_size)]
    return torch.cat(found)


@torch.no_grad()
def reference_logits(model: PreTrainedModel, blocks: TokenBlocks, *, batch_size: int, top: int = TOP) -> list[TopLogits]:
    """Keep the largest logits of the model as it is now, row by row.

    Args:
        model: The model before unlearning, or with its adapter disabled.
        blocks: The rows.
        batch_size: Rows in a forward pass.
        top: Tokens that are kept per prediction.

    Returns:
        The predictions of the counted tokens of every row, on the CPU.
    """
    with evaluation_mode(model):
        return [top_of for batch in blocks.batches(batch_size) for top_of in _row_by_row(predictions_of(model, batch), top)]


def _row_by_row(predictions: Predictions, top: int) -> Iterator[TopLogits]:
    """The largest logits of every row."""
    for logits, tokens in zip(predictions.logits, predictions.tokens, strict=True):
        counted = tokens >= 0
        kept = TopLogits.of(logits[counted], tokens[counted], top)
        yield TopLogits(kept.indices.to(torch.int32), kept.log_probabilities).to(torch.device("cpu"))


def joined(rows: list[TopLogits], device: torch.device) -> TopLogits:
    """Put the predictions of some rows one after another.

    Args:
        rows: The rows.
        device: Where the model's logits are.

    Returns:
        All of their predictions, in order.
    """
    indices = torch.cat([one.indices for one in rows]).long()
    return TopLogits(indices, torch.cat([one.log_probabilities for one in rows])).to(device)


def mean_divergence(model: PreTrainedModel, blocks: TokenBlocks, references: list[TopLogits], *, batch_size: int) -> float:
    """Measure how far a model's predictions are from what they were: mean KL(original || model) per token, in nats.

    Args:
        model: The model as it is now.
        blocks: The rows that the references are of.
        references: What the original predicted, from `reference_logits`.
        batch_size: Rows in a forward pass.

    Returns:
        The mean; a lower bound where the vocabulary is larger than what was kept.
    """
    total, tokens, start = 0.0, 0, 0
    with evaluation_mode(model), torch.inference_mode():
        for batch in blocks.batches(batch_size):
            rows = len(batch.input_ids)
            logits, _ = predictions_of(model, batch).chosen()
            one = joined(references[start : start + rows], logits.device).divergence(logits)
            total, tokens, start = total + float(one.double().sum()), tokens + len(one), start + rows
    return total / tokens
