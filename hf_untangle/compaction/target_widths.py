"""What physically stays: how many FFN neurons and key-value groups each layer needs, in which layout."""

import re
from math import lcm
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.errors import CompactionError
from hf_untangle.masks.mask import NeuronMask

EXPERT_MULTIPLE = 8
"""Widths of experts are multiples of this: grouped matrix products want rows of 16 bytes, which are 8 numbers in bfloat16."""

Layout = Literal["ragged", "uniform"]
"""Every layer as wide as it needs to be, or all layers of a kind equally wide."""


def unit_of_neuron(group: NeuronGroup) -> Int[Tensor, " neuron"]:
    """Number what can be taken out only as a whole: single FFN neurons; whole key-value groups with all their query heads.

    Args:
        group: A neuron group.

    Returns:
        For each neuron, the number of its unit, from 0.
    """
    alone, together = torch.arange(group.size), torch.zeros(group.size, dtype=torch.long)
    if not group.producers:
        # No row computes one of them alone, as behind a norm: without one, the others would be something else.
        return together
    if group.kind == "ffn":
        return alone
    count = group.key_value_heads or 1
    number_of_row = torch.searchsorted(group.producers[0].rows.unique(), group.producers[0].rows)
    units = alone // (group.size // count)
    # Query heads in another order than their key-value heads are one unit, so that not one of them is ever taken out.
    is_contiguous = group.size % count == 0 and torch.equal(number_of_row // (group.head_size or 1), units)
    return units if is_contiguous else together


def units_in_use(group: NeuronGroup, kept: Bool[Tensor, " neuron"]) -> Bool[Tensor, "expert unit"]:
    """Tell which units hold a neuron that stays.

    Args:
        group: A neuron group.
        kept: Which of its neurons stay.

    Returns:
        True where at least one does; one row for each expert, and a single one where there are none.
    """
    units = unit_of_neuron(group)
    used = torch.zeros(int(units[-1]) + 1, dtype=torch.bool).index_put_((units[kept],), torch.tensor(True))
    return used.view(group.experts or 1, -1)


def units_wanted(groups: tuple[NeuronGroup, ...], mask: NeuronMask, layout: Layout, round_to: int | None) -> dict[str, int]:
    """Count the units that every group must hold at least; all experts of a layer hold as many as the fullest needs.

    Args:
        groups: The neuron groups of the model.
        mask: Which neurons stay.
        layout: Whether layers may differ.
        round_to: FFN widths are multiples of this, where they are cut at all.

    Returns:
        A count for each group. An FFN may go whole (0, in the ragged layout); attention keeps at least one key-value
        group, as no model can be made without.

    Raises:
        CompactionError: A uniform layout is impossible, as layers of a kind differ in width already; or `round_to` is not
            positive.
    """
    if round_to is not None and round_to < 1:
        raise CompactionError(
            f"`round_to` must be a positive number of neurons, got {round_to}. Leave it out to round nothing."
        )
    used = {group.name: int(units_in_use(group, mask[group.name]).sum(1).max()) for group in groups}
    if layout == "ragged":
        return {group.name: _allowed(group, used[group.name], round_to) for group in groups}
    wanted: dict[str, int] = {}
    for alike in groups_alike(groups).values():
        if len({group.size for group in alike}) > 1 and alike[0].kind == "attention":
            # Heads of several sizes, as layers of several kinds have them: each kind would need a number of its own.
            wanted |= {group.name: places_in(group) for group in alike}
            continue
        _check_equal_widths(alike)
        largest = max(used[group.name] for group in alike)
        wanted |= {group.name: max(1, _allowed(group, largest, round_to)) for group in alike}
    return wanted


def places_in(group: NeuronGroup) -> int:
    """Count the units that a group holds now, or each of its experts.

    Args:
        group: A neuron group.

    Returns:
        FFN neurons, or key-value groups.
    """
    return (int(unit_of_neuron(group)[-1]) + 1) // (group.experts or 1)


def mask_of_all(mask: NeuronMask, groups: tuple[NeuronGroup, ...], model: str, revision: str | None = None) -> NeuronMask:
    """Check a mask, and add the groups that it leaves out, of which everything stays.

    Args:
        mask: Which neurons stay, of some groups.
        groups: The neuron groups of the model.
        model: The model's name.
        revision: Its commit on the Hub, if it has one.

    Returns:
        A mask of all groups.

    Raises:
        MaskError: The mask was made for another model, or another revision of it.
    """
    mask.check_fits(groups, model, revision)
    everything = NeuronMask.keep_all(groups, mask.model, mask.ablation, mask.revision)
    return everything.with_kept(everything.kept | mask.kept)


def groups_alike(groups: tuple[NeuronGroup, ...]) -> dict[str, list[NeuronGroup]]:
    """Sort groups by their name without the number of the layer: a model gives those that are alike one width.

    Args:
        groups: The neuron groups of a model.

    Returns:
        Groups by patterns such as `model.layers.*.mlp.down_proj`.
    """
    alike: dict[str, list[NeuronGroup]] = {}
    for group in groups:
        alike.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", group.name), []).append(group)
    return alike


def padded(used: Bool[Tensor, "expert unit"], count: int) -> Bool[Tensor, "expert unit"]:
    """Let removed units stay, as zeros, until each expert has reached a count.

    Args:
        used: Which units are in use.
        count: How many stay of each expert, at least those in use.

    Returns:
        Which units stay: those in use, and the first of the others.
    """
    # A stable sort puts units in use first, and the others after them in their order.
    order = (~used).int().argsort(dim=1, stable=True)
    return torch.zeros_like(used).scatter_(1, order[:, :count], True)


def _allowed(group: NeuronGroup, used: int, round_to: int | None) -> int:
    """The smallest count that a group can be cut to."""
    if group.kind == "attention" or not group.producers:
        return max(1, used)
    multiple = lcm(round_to or 1, EXPERT_MULTIPLE if group.experts else 1)
    return min(places_in(group), -(-used // multiple) * multiple)


def _check_equal_widths(alike: list[NeuronGroup]) -> None:
    """Refuse to make layers alike that are not."""
    sizes = sorted({group.size for group in alike})
    if len(sizes) > 1:
        raise CompactionError(
            f"A uniform layout needs layers of one width, but those of `{alike[0].name}` and its like already differ "
            f"({', '.join(map(str, sizes))} neurons). Use layout='ragged'."
        )
