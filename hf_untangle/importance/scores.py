"""Scores: how much more a neuron matters to the forget corpus than to the retain corpus. The highest go first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.errors import ConfigError
from hf_untangle.importance.observations import Neurons


@dataclass(frozen=True)
class Epsilon:
    """What is added to a denominator, so that neurons that do nothing on the retain corpus do not all come first."""

    value: float
    """At least zero."""
    relative: bool
    """Whether the value is a share of the group's mean retain importance, and so free of the model's scale."""

    def of(self, retain: Neurons) -> Float[Tensor, ""]:
        """The number to add for one neuron group.

        Args:
            retain: The importance of the group's neurons to the retain corpus.

        Returns:
            A scalar.
        """
        return self.value * (retain.mean() if self.relative else torch.ones((), dtype=retain.dtype))

    @classmethod
    def parse(cls, text: str | float) -> "Epsilon":
        """Read `0.001` as an absolute value and `10%` as a share of the group's mean.

        Args:
            text: A number, or a percentage.

        Returns:
            The epsilon.

        Raises:
            ConfigError: It is neither, or negative.
        """
        relative = str(text).endswith("%")
        try:
            value = float(str(text).removesuffix("%")) / (100 if relative else 1)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise ConfigError(f"eps must be a number (`0.001`) or a share of the mean (`10%`), at least 0, got `{text}`.")
        return cls(value, relative)


def ratio(forget: Neurons, retain: Neurons, eps: Epsilon) -> Neurons:
    """forget / (retain + eps), the score of arXiv:2403.01267; 0 for a neuron that does nothing on either corpus."""
    return torch.where(forget == 0, 0, forget / (retain + eps.of(retain)))


def difference(forget: Neurons, retain: Neurons, eps: Epsilon) -> Neurons:
    """(forget - retain) / (the group's mean of retain + eps), so that groups of different scale can be compared."""
    return (forget - retain) / (retain.abs().mean() + eps.of(retain.abs()))


def distance(forget: Neurons, retain: Neurons, eps: Epsilon) -> Neurons:
    """|forget - retain|, as arXiv:2403.01267 scores the importance `mean`. No eps."""
    return (forget - retain).abs()


def rank(forget: Neurons, retain: Neurons, eps: Epsilon) -> Neurons:
    """Rank of a neuron on the forget corpus less its rank on the retain corpus, each from 0 to 1 in its group. No eps."""
    return _ranks(forget) - _ranks(retain)


def forget_only(forget: Neurons, retain: Neurons, eps: Epsilon) -> Neurons:
    """The forget importance alone, no eps; with a veto, the top of forget less the top of retain (arXiv:2402.05162)."""
    return forget


def retain_only(forget: Neurons, retain: Neurons, eps: Epsilon) -> Neurons:
    """-retain: what the retain corpus needs least goes first, whatever it is to forget. No eps. A control, and compression."""
    return -retain


def fused(scores: Sequence[Mapping[str, Tensor]], competitors: Iterable[Sequence[str]]) -> dict[str, Tensor]:
    """Fuse several scores of the same neurons by rank, which needs no common scale (Borda's count).

    Args:
        scores: For each way to score, one vector per group, of any length.
        competitors: The names of the groups that are ranked together, such as all FFNs.

    Returns:
        The mean rank of every neuron among its competitors, from 0 to 1.
    """
    mean_ranks: dict[str, Tensor] = {}
    for names in competitors:
        together = torch.stack([_ranks(torch.cat([score[name] for name in names])) for score in scores]).mean(0)
        mean_ranks |= dict(zip(names, together.split([len(scores[0][name]) for name in names]), strict=True))
    return mean_ranks


def _ranks(values: Neurons) -> Neurons:
    """The rank of each value, from 0 for the lowest to 1 for the highest."""
    return values.argsort().argsort().double() / max(len(values) - 1, 1)


Score = Callable[[Neurons, Neurons, Epsilon], Neurons]

SCORES: dict[str, Score] = {
    "ratio": ratio,
    "difference": difference,
    "distance": distance,
    "rank": rank,
    "forget": forget_only,
    "retain": retain_only,
}
