"""What a model predicts of some rows, at the tokens that an objective counts: the tensors that every objective is made of."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from hf_untangle.data.documents import IGNORED


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits with the token that each of them predicts: position t of both belongs to token t + 1 of the row."""

    logits: Float[Tensor, "row position vocabulary"]
    """What the model predicts."""
    tokens: Int[Tensor, "row position"]
    """What follows in the text; IGNORED where nothing is counted: prompts and padding."""

    @classmethod
    def of(cls, logits: Float[Tensor, "row token vocabulary"], labels: Int[Tensor, "row token"]) -> "Predictions":
        """Shift logits and labels against each other.

        Args:
            logits: What a model gave for some rows.
            labels: The tokens of the rows themselves, IGNORED where they are not counted.

        Returns:
            The predictions of all tokens but the first.
        """
        return cls(logits[:, :-1].float(), labels[:, 1:].to(logits.device))

    @property
    def counted(self) -> Bool[Tensor, "row position"]:
        """Where something is predicted that counts."""
        return self.tokens != IGNORED

    def chosen(self) -> tuple[Float[Tensor, "prediction vocabulary"], Int[Tensor, " prediction"]]:
        """Logits and tokens at the counted positions alone, row by row."""
        if bool(self.counted.all()):
            # No copy of what is most of the memory.
            return self.logits.flatten(0, 1), self.tokens.flatten()
        return self.logits[self.counted], self.tokens[self.counted]

    def losses(self) -> Float[Tensor, "row position"]:
        """Cross-entropy of every token in nats, 0 where none is counted."""
        flat = F.cross_entropy(self.logits.flatten(0, 1), self.tokens.flatten(), ignore_index=IGNORED, reduction="none")
        return flat.view(self.tokens.shape)

    def mean_loss(self) -> Float[Tensor, ""]:
        """Cross-entropy per counted token, in nats."""
        return self.losses().sum() / self.counted.sum()

    def row_losses(self, *, per_token: bool) -> Float[Tensor, " row"]:
        """Negative log-probability of every row, in nats.

        Args:
            per_token: Whether to divide it by the number of counted tokens of the row.

        Returns:
            One number per row.
        """
        sums = self.losses().sum(-1)
        return sums / self.counted.sum(-1).clamp(min=1) if per_token else sums


def mean_squares(difference: Float[Tensor, "row token width"], counted: Bool[Tensor, "row token"]) -> Float[Tensor, ""]:
    """Average the squares of hidden states: over the width, then over counted tokens of a row, then over rows.

    Args:
        difference: How far some hidden states are from where they should be.
        counted: Which tokens count.

    Returns:
        The mean square.
    """
    squares = difference.float().square().mean(-1) * counted
    return (squares.sum(-1) / counted.sum(-1).clamp(min=1)).mean()


def unit_direction(width: int, seed: int) -> Float[Tensor, " width"]:
    """Draw the direction that RMU steers hidden states to: uniform entries, scaled to length 1 (arXiv:2403.03218).

    Args:
        width: Of the hidden states.
        seed: For the draw.

    Returns:
        The direction, on the CPU.
    """
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()
