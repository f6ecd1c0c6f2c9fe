"""Which indices stay on every axis that shrinks.

The shapes of the smaller model say which axes shrink, and the neuron groups say what stays on them: so the rows of queries and
keys, norms of their heads, and whatever else a model has one number per neuron or per head for, is cut with the same indices.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hf_untangle.architecture.meta_models import Shapes
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.compaction.edits import Stays
from hf_untangle.compaction.target_widths import unit_of_neuron
from hf_untangle.errors import CompactionError


def cuts(
    groups: tuple[NeuronGroup, ...], units: dict[str, Bool[Tensor, "expert unit"]], before: Shapes, after: Shapes
) -> dict[str, list[Stays]]:
    """Say what stays on every axis that shrinks.

    Args:
        groups: The neuron groups of the model.
        units: Which units of each group stay.
        before: The shapes of the model.
        after: The shapes of the smaller one.

    Returns:
        By the name of the parameter.

    Raises:
        CompactionError: A tensor appears, disappears or shrinks that no group explains, or one that should shrink does not.
    """
    if changed := before.keys() ^ after.keys():
        raise CompactionError(f"The tensor `{min(changed)}` must be in both models, but it is in one of them alone.")
    found: dict[str, list[Stays]] = {}
    for name, old in before.items():
        for axis, (size, new_size) in enumerate(zip(old, after[name], strict=True)):
            if size != new_size:
                group = _owner(name, groups)
                index = None if group is None else _index_that_stays(group, units[group.name], name, size)
                if index is None or index.shape[-1] != new_size:
                    raise CompactionError(
                        f"The tensor `{name}` has the shape {list(old)} and would get {list(after[name])}, which the removed "
                        "neurons do not explain. This kind of layer is not understood."
                    )
                found.setdefault(name, []).append((axis, index))
    _check_complete(groups, units, {_projection(name, groups) for name in found})
    return found


def _check_complete(
    groups: tuple[NeuronGroup, ...], units: dict[str, Bool[Tensor, "expert unit"]], cut: set[str | None]
) -> None:
    """Refuse a model in which something is as wide as before that should not be."""
    for group in groups:
        for name in _projections(group):
            if name not in cut and not units[group.name].all():
                raise CompactionError(f"The projection `{name}` must become smaller, but it does not.")


def _projections(group: NeuronGroup) -> list[str]:
    """The output projection and the producers."""
    return [group.name, *(producer.name for producer in group.producers)]


def _projection(parameter: str, groups: Iterable[NeuronGroup]) -> str | None:
    """The projection that a parameter is a weight or bias of; None when it does not belong to a group's."""
    known = {name for group in groups for name in _projections(group)}
    options = (parameter, parameter.removesuffix("_bias"), parameter.rpartition(".")[0])
    return next((option for option in options if option in known), None)


def _owner(parameter: str, groups: Iterable[NeuronGroup]) -> NeuronGroup | None:
    """The group that a parameter belongs to: the one it is a projection of, or the innermost whose module it lies in."""
    projection = _projection(parameter, groups)
    if projection is not None:
        return next(group for group in groups if projection in _projections(group))
    around = [(len(place), group) for group in groups if parameter.startswith(place := f"{module_around(group)}.")]
    return max(around, key=lambda pair: pair[0], default=(0, None))[1]


def module_around(group: NeuronGroup) -> str:
    """Find the innermost module that holds all projections of a group.

    Args:
        group: A neuron group.

    Returns:
        Its path.
    """
    paths = [name.split(".") for name in _projections(group)]
    shortest = min(len(path) for path in paths) - 1
    depth = next((depth for depth in range(shortest) if len({path[depth] for path in paths}) > 1), shortest)
    return ".".join(paths[0][:depth])


def _index_that_stays(
    group: NeuronGroup, units: Bool[Tensor, "expert unit"], parameter: str, size: int
) -> Int[Tensor, "*expert index"] | None:
    """What stays on one axis of a parameter; None when the axis is not understood."""
    neurons = units.flatten()[unit_of_neuron(group)]
    projection = _projection(parameter, [group])
    rows = [producer.rows for producer in group.producers if producer.name == projection]
    if projection == group.name:
        return _numbers(neurons, group)
    if group.kind == "attention":
        return _rows_of_heads(group, units[0], size, rows[0].unique() if rows else None)
    if rows:
        gone = torch.cat([row[~neurons] for row in rows])
        stays = torch.ones((group.experts or 1) * size, dtype=torch.bool)
        return _numbers(stays.index_fill_(0, gone, False), group)
    return _numbers(neurons, group) if size == group.size else None


def _numbers(stays: Bool[Tensor, " index"], group: NeuronGroup) -> Int[Tensor, "*expert kept"]:
    """The numbers of what stays, counted in each expert alone where there are experts."""
    if group.experts is None:
        return stays.nonzero().flatten()
    return stays.view(group.experts, -1).nonzero()[:, 1].view(group.experts, -1)


def _rows_of_heads(
    group: NeuronGroup, units: Bool[Tensor, " unit"], size: int, values: Int[Tensor, " value"] | None
) -> Int[Tensor, " index"] | None:
    """What stays where rows belong to heads: equal blocks, one a key-value group; or queries, keys and values in a row."""
    count = len(units)
    if size % count:
        return None
    block = size // count
    if values is None or torch.equal(values // block, torch.arange(count).repeat_interleave(len(values) // count)):
        return units.repeat_interleave(block).nonzero().flatten()
    parts = [group.size, len(values), len(values)]
    if sum(parts) != size or int(values[0]) != group.size + len(values):
        return None
    return torch.cat([units.repeat_interleave(part // count) for part in parts]).nonzero().flatten()
