"""What becomes of every tensor: which rows and columns are set to zero, and which stay."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import input_axis
from hf_untangle.compaction.skeleton import Shapes
from hf_untangle.compaction.stays import unit_of_neuron
from hf_untangle.errors import CompactionError
from hf_untangle.masks.mask import NeuronMask

Slice = tuple[int, Int[Tensor, " index"]]
"""An axis of a tensor, and some of its indices."""


@dataclass(eq=False)
class Edit:
    """What becomes of one tensor."""

    zeros: list[Slice] = field(default_factory=list)
    """What is set to zero, in the numbers of the old tensor."""
    stays: list[Slice] = field(default_factory=list)
    """What stays on the axes that shrink, in increasing order."""

    def apply(self, tensor: Tensor) -> Tensor:
        """Make the new tensor.

        Args:
            tensor: The old one, which is left as it is.

        Returns:
            A tensor of its own, with the zeros in it and without what went.
        """
        edited = tensor.detach().clone()
        for axis, index in self.zeros:
            edited.index_fill_(axis, index.to(tensor.device), 0)
        for axis, index in self.stays:
            edited = edited.index_select(axis, index.to(tensor.device))
        return edited


def removal(model: nn.Module, groups: Iterable[NeuronGroup], mask: NeuronMask) -> dict[str, Edit]:
    """What `remove_` does, as edits: zero the columns that read removed neurons, and the rows and biases that compute them.

    Args:
        model: The model, or its hollow twin.
        groups: Its neuron groups.
        mask: Which neurons stay.

    Returns:
        An edit for every parameter that changes.
    """
    edits: dict[str, Edit] = {}
    for group in groups:
        kept = mask[group.name]
        if kept.all():
            continue
        column = input_axis(model.get_submodule(group.name))
        edits.setdefault(f"{group.name}.weight", Edit()).zeros.append((column, (~kept).nonzero().flatten()))
        for producer in group.producers:
            projection, rows = model.get_submodule(producer.name), producer.rows_needed_by_none(kept)
            edits.setdefault(f"{producer.name}.weight", Edit()).zeros.append((1 - input_axis(projection), rows))
            if getattr(projection, "bias", None) is not None:
                edits.setdefault(f"{producer.name}.bias", Edit()).zeros.append((0, rows))
    return edits


def edits_of(
    model: nn.Module, groups: Iterable[NeuronGroup], mask: NeuronMask, stays: dict[str, list[Slice]]
) -> dict[str, Edit]:
    """Put removal and cutting together.

    Args:
        model: The model, or its hollow twin.
        groups: Its neuron groups.
        mask: Which neurons stay.
        stays: What stays on every axis that shrinks, from `cuts`.

    Returns:
        An edit for every parameter that changes.
    """
    edits = removal(model, groups, mask)
    for name, slices in stays.items():
        edits.setdefault(name, Edit()).stays.extend(slices)
    return edits


def cuts(
    groups: tuple[NeuronGroup, ...], stays: dict[str, Bool[Tensor, " unit"]], before: Shapes, after: Shapes
) -> dict[str, list[Slice]]:
    """Say what stays on every axis that shrinks.

    The shapes say which axes shrink, and the groups say what stays on them: so the rows of queries and keys, norms of their
    heads, and whatever else a model has one number a neuron or a head for, is cut with the same indices.

    Args:
        groups: The neuron groups of the model.
        stays: Which units of each group stay.
        before: The shapes of the model.
        after: The shapes of the smaller one.

    Returns:
        By the name of the parameter.

    Raises:
        CompactionError: A tensor appears, disappears or shrinks that no group explains.
    """
    if changed := before.keys() ^ after.keys():
        raise CompactionError(f"The tensor `{min(changed)}` must be in both models, but it is in one of them alone.")
    found: dict[str, list[Slice]] = {}
    for name, old in before.items():
        for axis, (size, new_size) in enumerate(zip(old, after[name], strict=True)):
            if size == new_size:
                continue
            group = _owner(name, groups)
            index = None if group is None else _index_that_stays(group, stays[group.name], name, size)
            if index is None or len(index) != new_size:
                raise CompactionError(
                    f"The tensor `{name}` has the shape {list(old)} and would get {list(after[name])}, which the removed "
                    "neurons do not explain. This kind of layer is not understood."
                )
            found.setdefault(name, []).append((axis, index))
    return found


def _owner(name: str, groups: Iterable[NeuronGroup]) -> NeuronGroup | None:
    """The group that a parameter belongs to: the one it is named in, or else the innermost whose module it lies in."""
    around = [(len(place), group) for group in groups if name.startswith(place := f"{_module(group)}.")]
    named = [group for group in groups if name.rpartition(".")[0] in projections_of(group)]
    return named[0] if named else max(around, key=lambda pair: pair[0], default=(0, None))[1]


def projections_of(group: NeuronGroup) -> list[str]:
    """List the projections of a group.

    Args:
        group: A neuron group.

    Returns:
        The names of the output projection and of the producers.
    """
    return [group.name, *(producer.name for producer in group.producers)]


def _module(group: NeuronGroup) -> str:
    """The innermost module that holds all projections of a group."""
    paths = [name.split(".") for name in projections_of(group)]
    depth = next(depth for depth in range(len(paths[0])) if len({tuple(path[: depth + 1]) for path in paths}) > 1)
    return ".".join(paths[0][:depth])


def _index_that_stays(group: NeuronGroup, stays: Bool[Tensor, " unit"], name: str, size: int) -> Int[Tensor, " index"] | None:
    """What stays on one axis of a parameter; None when the axis is not understood."""
    module = name.rpartition(".")[0]
    neurons = stays[unit_of_neuron(group)]
    if module == group.name:
        return neurons.nonzero().flatten()
    rows = [producer.rows for producer in group.producers if producer.name == module]
    if group.kind == "attention":
        return _rows_of_heads(group, stays, size, rows[0].unique() if rows else None)
    if rows:
        gone = torch.cat([row[~neurons] for row in rows])
        return torch.ones(size, dtype=torch.bool).index_fill_(0, gone, False).nonzero().flatten()
    return neurons.nonzero().flatten() if size == group.size else None


def _rows_of_heads(
    group: NeuronGroup, stays: Bool[Tensor, " unit"], size: int, values: Int[Tensor, " value"] | None
) -> Int[Tensor, " index"] | None:
    """What stays where rows belong to heads: equal blocks, one a key-value group; or queries, keys and values in a row."""
    count = len(stays)
    if size % count:
        return None
    block = size // count
    if values is None or torch.equal(values // block, torch.arange(count).repeat_interleave(len(values) // count)):
        return stays.repeat_interleave(block).nonzero().flatten()
    parts = [group.size, len(values), len(values)]
    if sum(parts) != size or int(values[0]) != group.size + len(values):
        return None
    return torch.cat([stays.repeat_interleave(part // count) for part in parts]).nonzero().flatten()
