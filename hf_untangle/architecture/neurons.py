"""What a neuron is here: one input coordinate of an output projection."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from rich.table import Table
from torch import Tensor

from hf_untangle.arguments import checked_calls
from hf_untangle.display import notebook_html, rows_table, short_repr

Kind = Literal["ffn", "attention"]
KINDS: tuple[Kind, ...] = ("ffn", "attention")


@checked_calls
@dataclass(frozen=True, eq=False)
class Producer:
    """The output rows of one projection that compute the neurons of a group.

    A fused projection (query, key and value in one, or gate and up in one) is a producer with the rows that matter.
    """

    name: str
    """Path of the projection in the model, such as `model.layers.0.mlp.up_proj`, or of the parameter that holds the
    projections of all experts; their rows are counted expert by expert."""
    rows: Int[Tensor, " neuron"]
    """`rows[n]` is the output row that computes neuron n. Under grouped queries several neurons share a row."""

    def __repr__(self) -> str:
        """The projection, and how many of its rows compute the neurons."""
        return f"Producer({self.name}, {len(self.rows.unique()):,} rows)"

    def rows_needed_by_none(self, kept: Bool[Tensor, " neuron"]) -> Int[Tensor, " row"]:
        """List the rows that no kept neuron needs, in increasing order.

        Args:
            kept: Which neurons of the group stay.

        Returns:
            Row numbers.
        """
        needed = self.rows[kept].unique()
        rows = self.rows.unique()
        return rows[~torch.isin(rows, needed)]


@checked_calls
@dataclass(frozen=True, eq=False)
class NeuronGroup:
    """All neurons of one output projection: one FFN or one attention block of one layer, or all experts of one layer."""

    name: str
    """Path of the output projection in the model, such as `model.layers.0.mlp.down_proj`, or of the parameter that holds
    the output projections of all experts, such as `model.layers.0.mlp.experts.down_proj`."""
    kind: Kind
    layer: int
    """Index of the layer in its stack, from 0."""
    size: int
    """Number of neurons, which is the input width of the output projection, times the number of experts if there are any."""
    producers: tuple[Producer, ...]
    """What computes each neuron alone: gate and up rows, or the only FFN projection's rows, or value rows first and then
    those of a gate. Empty where no row does, as behind a norm: such neurons can be silenced, but not left uncomputed."""
    heads: int | None = None
    """Number of query heads; None for an FFN. Neurons of one head are contiguous."""
    experts: int | None = None
    """Number of experts, whose neurons are contiguous each; 1 for a routed expert that is a module of its own; None where there
    are none."""
    stack: str = ""
    """Path of the stack of layers, such as `model.layers`; an encoder and a decoder have one each."""
    __repr__ = short_repr
    _repr_html_ = notebook_html

    def describe(self) -> str:
        """Say in one line which neurons these are."""
        parts = [("heads", self.heads), ("experts", self.experts)]
        having = "".join(f", {number} {name}" for name, number in parts if number is not None)
        return f"{self.size:,} {self.kind} neurons of layer {self.layer}{having} ({self.name})"

    @property
    def head_size(self) -> int | None:
        """Neurons in one query head; None for an FFN."""
        return None if self.heads is None else self.size // self.heads

    @property
    def key_value_heads(self) -> int | None:
        """Number of heads that the value rows form; fewer than `heads` under grouped queries; None where no row is known."""
        if self.head_size is None or not self.producers:
            return None
        return len(self.producers[0].rows.unique()) // self.head_size

    def shares_rows_with_kept(self, kept: Bool[Tensor, " neuron"]) -> Bool[Tensor, " neuron"]:
        """Tell which removed neurons are still computed, as a kept neuron of another query head needs the same row.

        Args:
            kept: Which neurons of the group stay.

        Returns:
            True where a neuron is removed, but its row is needed by a kept one, or no row computes it alone.
        """
        if not self.producers:
            return ~kept
        rows = self.producers[0].rows
        return ~kept & torch.isin(rows, rows[kept])


class NeuronGroups(tuple[NeuronGroup, ...]):
    """The neuron groups of a model in the order in which they run: a tuple that says what is in it."""

    __slots__ = ()
    __repr__ = short_repr
    _repr_html_ = notebook_html

    def describe(self) -> str:
        """Say in one line how many neurons of each kind there are."""
        found = {kind: [group for group in self if group.kind == kind] for kind in KINDS}
        parts = [
            f"{len(groups)} {kind} groups of {sum(group.size for group in groups):,} neurons"
            for kind, groups in found.items()
            if groups
        ]
        return f"{' and '.join(parts) or 'no neuron group'} in {len({(group.stack, group.layer) for group in self})} layers"

    def table(self) -> Table:
        """Lay out where the neurons are, and what computes them."""
        headings = ("group", "kind", "computed by", "layer", "neurons", "heads", "experts")
        return rows_table(headings, map(_row, self), names=3)


def _row(group: NeuronGroup) -> tuple[str, ...]:
    """One group of a table."""
    producers = ", ".join(producer.name.rpartition(".")[2] for producer in group.producers)
    numbers = (group.layer, group.size, group.heads, group.experts)
    return group.name, group.kind, producers, *("" if number is None else f"{number:,}" for number in numbers)
