"""What a neuron is here: one input coordinate of an output projection."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Int
from torch import Tensor

Kind = Literal["ffn", "attention"]
KINDS: tuple[Kind, ...] = ("ffn", "attention")


@dataclass(frozen=True, eq=False)
class Producer:
    """The output rows of one projection that compute the neurons of a group.

    A fused projection (query, key and value in one, or gate and up in one) is a producer with the rows that matter.
    """

    name: str
    """Path of the projection in the model, such as `model.layers.0.mlp.up_proj`."""
    rows: Int[Tensor, " neuron"]
    """`rows[n]` is the output row that computes neuron n. Under grouped queries several neurons share a row."""

    def rows_needed_by_none(self, kept: Bool[Tensor, " neuron"]) -> Int[Tensor, " row"]:
        """List the rows that no kept neuron needs, in increasing order.

        Args:
            kept: Which neurons of the group stay.

        Returns:
            Row numbers.
        """
        needed = self.rows[kept].unique()
        rows = self.rows.unique()
        return rows[~_is_in(rows, needed)]


@dataclass(frozen=True, eq=False)
class NeuronGroup:
    """All neurons of one output projection: one FFN or one attention block of one layer."""

    name: str
    """Path of the output projection in the model, such as `model.layers.0.mlp.down_proj`."""
    kind: Kind
    layer: int
    """Index of the layer, from 0."""
    size: int
    """Number of neurons, which is the input width of the output projection."""
    producers: tuple[Producer, ...]
    """What computes the neurons: gate and up rows, or the only FFN projection's rows, or value rows."""
    heads: int | None = None
    """Number of query heads; None for an FFN. Neurons of one head are contiguous."""

    @property
    def head_size(self) -> int | None:
        """Neurons in one query head; None for an FFN."""
        return None if self.heads is None else self.size // self.heads

    @property
    def key_value_heads(self) -> int | None:
        """Number of heads that the value rows form; fewer than `heads` under grouped queries; None for an FFN."""
        if self.head_size is None:
            return None
        return len(self.producers[0].rows.unique()) // self.head_size

    def shares_rows_with_kept(self, kept: Bool[Tensor, " neuron"]) -> Bool[Tensor, " neuron"]:
        """Tell which removed neurons are still computed, as a kept neuron of another query head needs the same row.

        Args:
            kept: Which neurons of the group stay.

        Returns:
            True where a neuron is removed, but each of its rows is needed by a kept one.
        """
        shared = ~kept
        for producer in self.producers:
            shared = shared & _is_in(producer.rows, producer.rows[kept])
        return shared


def _is_in(values: Int[Tensor, " n"], others: Int[Tensor, " m"]) -> Bool[Tensor, " n"]:
    """Elementwise membership."""
    return (values[:, None] == others.unique()[None, :]).any(-1) if len(others) else values < values
