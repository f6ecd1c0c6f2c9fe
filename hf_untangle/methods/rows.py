"""The rows that a method is trained on, each with what the original model said of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from hf_untangle.architecture.inference_mode import evaluation_mode, uncached
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.documents import IGNORED
from hf_untangle.errors import CorpusError
from hf_untangle.evaluation.kl_to_original import TopLogits

TRAINING_TOP = 128
"""Logits that are kept per token for objectives that learn from the original: 1 KiB per token."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows, with what an objective needs of the original; what it does not need is None."""

    blocks: TokenBlocks
    losses: Float[Tensor, " row"] | None = None
    """-log pi_0 of every row."""
    top: tuple[TopLogits, ...] | None = None
    """What pi_0 predicted of every row."""
    hidden: Float[Tensor, "row token width"] | None = None
    """Hidden states of pi_0 behind the chosen layer, in float16."""
    alternative: "Rows | None" = None
    """The same prompts with other answers."""

    def take(self, which: Int[Tensor, " n"]) -> "Rows":
        """Some of the rows.

        Args:
            which: Their numbers.

        Returns:
            Those.
        """
        blocks = self.blocks.rows(which)
        return replace(
            self,
            blocks=blocks,
            losses=None if self.losses is None else self.losses[which],
            top=None if self.top is None else tuple(self.top[int(row)] for row in which),
            hidden=None if self.hidden is None else self.hidden[which, : blocks.width],
            alternative=None if self.alternative is None else self.alternative.take(which),
        )

    @property
    def predicted(self) -> Int[Tensor, " row"]:
        """Tokens of every row that are predicted and count."""
        return (self.blocks.labels()[:, 1:] != IGNORED).sum(-1)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.blocks.input_ids)


def counted_tokens(blocks: TokenBlocks) -> Bool[Tensor, "row token"]:
    """Tokens that an objective of hidden states counts: those that have a label.

    Args:
        blocks: The rows.

    Returns:
        True for tokens of answers, or of running text.
    """
    return blocks.labels() != IGNORED


def predicting(blocks: TokenBlocks) -> TokenBlocks:
    """Refuse rows of which nothing is predicted, and leave running text of a single token out.

    Args:
        blocks: The rows.

    Returns:
        Those with a token to predict.

    Raises:
        CorpusError: A row has no answer left in it, or no row has two tokens.
    """
    some = Rows(blocks).predicted > 0
    if blocks.answers is not None and not some.all():
        raise CorpusError(
            f"Every row of `{blocks.corpus.name}` needs a token of its answer in the block, got {int((~some).sum())} "
            f"of {len(some)} rows without: the answer is empty, or cut off. Leave these rows out, or raise block_size."
        )
    if not some.any():
        raise CorpusError(f"A row of `{blocks.corpus.name}` needs two tokens, got none that has. Pass longer documents.")
    return blocks if bool(some.all()) else blocks.rows(some.nonzero().flatten())


class _Reached(Exception):  # noqa: N818 (no error: it ends a forward pass)
    """The layer has run, and nothing behind it is needed."""


def hidden_states(model: nn.Module, layer: str, blocks: TokenBlocks) -> Float[Tensor, "row token width"]:
    """Run a model as far as one of its layers.

    Args:
        model: The model.
        layer: Name of the layer.
        blocks: The rows.

    Returns:
        What the layer gives, with a graph where gradients are recorded.
    """
    below = model_below(model)
    with _stopped_behind(below.get_submodule(layer)) as found, suppress(_Reached):
        model(**blocks.inputs(input_device(model)), **uncached(below))
    return found[0]


@contextmanager
def _stopped_behind(layer: nn.Module) -> Iterator[list[Tensor]]:
    """End forward passes behind a layer inside the `with` block, and catch what it gives."""
    found: list[Tensor] = []

    def stop(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found.append(output if isinstance(output, Tensor) else output[0])
        raise _Reached

    handle = layer.register_forward_hook(stop)
    try:
        yield found
    finally:
        handle.remove()


@torch.no_grad()
def original_hidden(model: nn.Module, layer: str, blocks: TokenBlocks, *, batch_size: int) -> Float[Tensor, "row token width"]:
    """Keep the hidden states of the model as it is now.

    Args:
        model: The model before unlearning.
        layer: Name of the layer.
        blocks: The rows.
        batch_size: Rows in a forward pass.

    Returns:
        Hidden states of all rows in float16, on the CPU.
    """
    starts = range(0, len(blocks.input_ids), batch_size)
    with evaluation_mode(model):
        parts = [hidden_states(model, layer, blocks.rows(slice(at, at + batch_size))).half().cpu() for at in starts]
    return torch.cat([F.pad(part, (0, 0, 0, blocks.width - part.shape[1])) for part in parts])


def order(rows: int, steps: int, per_step: int, seed: int) -> Sequence[Int[Tensor, " _"]]:
    """Choose the rows of every step: in an order of their own each time that all of them have been seen.

    Args:
        rows: How many there are.
        steps: How many steps there are.
        per_step: Rows in a step.
        seed: For the order.

    Returns:
        The numbers of the rows of each step.
    """
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-steps * per_step // rows)
    drawn = torch.cat([torch.randperm(rows, generator=generator) for _ in range(rounds)])
    return drawn[: steps * per_step].split(per_step)
