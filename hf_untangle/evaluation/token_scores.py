"""What a model says of every token of a text, given the true tokens before it: all that most metrics need, in one pass.

Logits are never kept. Of each row of them a few numbers stay, which are summed up where the model is, for all tokens of a
batch at once, and copied to the CPU.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.forward import in_step, run_body
from hf_untangle.architecture.inference_mode import evaluation_mode, without_gradients
from hf_untangle.architecture.offload import input_device
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.distributed import together
from hf_untangle.errors import StatisticsError
from hf_untangle.evaluation.next_token import logits_and_labels

BEST = 10
"""How many of the most likely tokens are kept."""


@dataclass(frozen=True, eq=False)
class TokenScores:
    """What a model says of the tokens of one text, or of one answer, on the CPU."""

    tokens: Int[Tensor, " token"]
    """The true tokens."""
    best: Int[Tensor, "token rank"]
    """The ten most likely tokens instead of each, best first."""
    log_probabilities: Float[Tensor, " token"]
    """Of the true tokens, each given those before it, in nats."""
    means: Float[Tensor, " token"]
    """Mean log-probability under the model's own distribution: minus its entropy, in nats."""
    deviations: Float[Tensor, " token"]
    """Standard deviation of the log-probability under the model's own distribution, in nats."""


def token_scores(
    model: PreTrainedModel, blocks: TokenBlocks, *, batch_size: int = 8, progress: bool = True
) -> tuple[TokenScores, ...]:
    """Ask a model about every token that blocks want predicted, under teacher forcing.

    Several processes each ask about their share of the blocks, and all of them get the scores of all.

    Args:
        model: A causal language model, or a masked one.
        blocks: Running text, or `AnswerBlocks`, of which only the answers are predicted.
        batch_size: Blocks in one forward pass of the base model.
        progress: Whether to show a progress bar.

    Returns:
        The scores of each block, in their order.

    Raises:
        StatisticsError: The model's logits are not finite.
    """
    parts = together(lambda: _scores_of(model, blocks.mine(), batch_size, progress))
    # Process i of n has the blocks i, i + n, i + 2n and so on.
    return tuple(parts[row % len(parts)][row // len(parts)] for row in range(len(blocks.input_ids)))


def _scores_of(model: PreTrainedModel, blocks: TokenBlocks, batch_size: int, progress: bool) -> list[TokenScores]:
    """The scores of some blocks."""
    device = input_device(model)
    scores = []
    with (
        blocks.bar("scores of", progress=progress) as bar,
        evaluation_mode(model),
        without_gradients(model),
        in_step(model, blocks.batches(batch_size), run_body),
    ):
        for batch in blocks.batches(batch_size):
            where, tokens = batch.queries()
            each = logits_and_labels(model, batch.inputs(device), where.to(device), tokens.to(device))
            chunks = [_told(logits, labels) for logits, labels in each]
            lengths = where.sum(1).tolist()
            fields = [torch.cat(field).cpu().split(lengths) for field in zip(*chunks, strict=True)]
            scores += [TokenScores(*row) for row in zip(*fields, strict=True)]
            bar.update(batch.tokens)
    _check_finite(scores, blocks.corpus.name)
    return scores


def _told(logits: Float[Tensor, "token vocabulary"], labels: Int[Tensor, " token"]) -> tuple[Tensor, ...]:
    """What some rows of logits say of their tokens: the fields of `TokenScores`."""
    logs = logits.float().log_softmax(-1)
    of_labels = logs.gather(-1, labels[:, None])[:, 0]
    best = logs.topk(min(BEST, logs.shape[-1])).indices
    # A token that cannot come has log-probability minus infinity, but no part in a mean: 0 times a finite number is 0.
    logs.clamp_min_(-1e4)
    probabilities = logs.exp()
    means = (probabilities * logs).sum(-1)
    deviations = logs.sub_(means[:, None]).square_().mul_(probabilities).sum(-1).sqrt()
    return labels, best, of_labels, means, deviations


def _check_finite(scores: list[TokenScores], name: str) -> None:
    """Refuse a model whose weights are broken."""
    if any(score.log_probabilities.isnan().any() for score in scores):
        raise StatisticsError(
            f"The log-probabilities on {name} must be numbers, but some are NaN: the model's logits are not finite. Load it in "
            "float32 or bfloat16 (`dtype=`), and check that its weights are whole."
        )
