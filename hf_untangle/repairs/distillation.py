"""What the original model predicts, kept once, for a repaired model to learn from (distillation, arXiv:1503.02531)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode, uncached
from hf_untangle.architecture.offload import input_device
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.documents import IGNORED
from hf_untangle.distributed import together
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.kl_to_original import TopLogits


@dataclass(frozen=True, eq=False)
class Teacher:
    """The original model's predictions of some blocks: its most likely tokens, and all others together as one."""

    rows: Mapping[bytes, TopLogits]
    """The predictions of every block, by its tokens and labels: a loss is told no more of a block than these."""
    temperature: float
    """What logits are divided by, the original's here and the learner's in the loss."""

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        original: PreTrainedModel,
        blocks: TokenBlocks,
        *,
        top: int,
        temperature: float = 1.0,
        batch_size: int = 4,
        progress: bool = True,
    ) -> "Teacher":
        """Run the original once over some blocks. Of several processes each runs its share, and all get the predictions of all.

        Args:
            original: The model to learn from, which is only read, and not needed any more afterwards.
            blocks: What is going to be trained on.
            top: Tokens that are kept per prediction, with 8 bytes each; the one that follows in the text is always among them.
            temperature: What logits are divided by; above 1, unlikely tokens count more.
            batch_size: Blocks in a forward pass.
            progress: Whether to show a progress bar.

        Returns:
            The predictions, on the CPU.
        """

        def of_my_blocks() -> dict[bytes, TopLogits]:
            found: dict[bytes, TopLogits] = {}
            mine, device = blocks.mine(), input_device(original)
            with mine.bar("original on", progress=progress) as bar, evaluation_mode(original):
                for batch in mine.batches(batch_size) if len(mine) else ():
                    logits = original(**batch.inputs(device), **uncached(original)).logits
                    found |= _by_block(logits, batch.input_ids, batch.labels(), top, temperature)
                    bar.update(batch.tokens)
            return found

        return cls({key: one for part in together(of_my_blocks) for key, one in part.items()}, temperature)

    def predictions(self, input_ids: Int[Tensor, "block position"], labels: Int[Tensor, "block position"]) -> TopLogits:
        """What the original predicts of a batch.

        Args:
            input_ids: The tokens of some of the blocks, in any order.
            labels: The tokens to predict, and IGNORED for all others.

        Returns:
            The predictions of all tokens but the first of each block that are to be predicted.

        Raises:
            ConfigError: One of the blocks is not among those that the original has read.
        """
        keys = _keys(input_ids, labels)
        if not all(key in self.rows for key in keys):
            raise ConfigError(
                "Every block must be one that the original has read, but one is not. Train on the blocks as they are."
            )
        return TopLogits.joined([self.rows[key] for key in keys]).to(labels.device)


def mixed_target_loss(
    outputs: Any,
    labels: Int[Tensor, "block position"],
    num_items_in_batch: Tensor | int | None = None,
    *,
    teacher: Teacher,
    share: float,
    inputs: Mapping[str, Tensor] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy against a mixture of the text and what the original model predicts of it.

    With q the model's prediction of a token, y the token itself, s the share, and p_T and q_T what the original and the model
    predict at temperature T, the loss of a token is -(1 - s) log q(y) - s T^2 sum_v p_T(v) log q_T(v), where v runs over the
    tokens that the teacher keeps and over all others as one. Its gradient is that of (1 - s) times the usual loss and s T^2
    times KL(p_T || q_T); the square keeps both of one size at any temperature (arXiv:1503.02531).

    Args:
        outputs: What the model gave, with `logits`.
        labels: The tokens to predict, and IGNORED for all others.
        num_items_in_batch: What the sum over tokens is divided by; their own number when None.
        teacher: What the original predicts.
        share: Its share s, from 0 to 1.
        inputs: What the model was called with; the labels where all of them count.

    Returns:
        The loss of a token.
    """
    known = labels[:, 1:] != IGNORED
    logits = outputs.logits[:, :-1][known].float()
    target = teacher.predictions((inputs or {"input_ids": labels})["input_ids"], labels).to(logits.device)
    of_original = teacher.temperature**2 * target.cross_entropy(logits / teacher.temperature).sum()
    of_text = F.cross_entropy(logits, labels[:, 1:][known].to(logits.device), reduction="sum")
    tokens = known.sum() if num_items_in_batch is None else num_items_in_batch
    return ((1 - share) * of_text + share * of_original) / tokens


def _by_block(
    logits: Float[Tensor, "block position vocabulary"],
    input_ids: Int[Tensor, "block position"],
    labels: Int[Tensor, "block position"],
    top: int,
    temperature: float,
) -> dict[bytes, TopLogits]:
    """The most likely tokens of every block, where there is something to predict."""
    found: dict[bytes, TopLogits] = {}
    for key, row, following in zip(_keys(input_ids, labels), logits[:, :-1], labels[:, 1:].to(logits.device), strict=True):
        known = following != IGNORED
        found[key] = TopLogits.of(row[known].float() / temperature, following[known], top).to(torch.device("cpu"))
    return found


def _keys(input_ids: Int[Tensor, "block position"], labels: Int[Tensor, "block position"]) -> list[bytes]:
    """What blocks are told apart by."""
    both = torch.stack([input_ids.cpu().long(), labels.cpu().long()], 1)
    return [one.numpy().tobytes() for one in both]
