"""What is taken out as a whole: key-value groups with their query heads, blocks, layers or experts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.routers import routed_groups
from hf_untangle.arguments import checked_calls
from hf_untangle.compaction.slices import module_around
from hf_untangle.compaction.target_widths import unit_of_neuron
from hf_untangle.configs.prune import Allocation, Unit
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError
from hf_untangle.masks.mask import NeuronMask


@checked_calls
@dataclass(frozen=True, eq=False)
class UnitSet:
    """Units of one kind in a model, numbered from 0."""

    kind: Unit
    names: tuple[str, ...]
    """What each is called, such as `layer 3` or `layer 3, FFN`."""
    of: dict[str, Int[Tensor, " neuron"]]
    """By group: the unit that each neuron belongs to."""
    pools: Int[Tensor, " unit"]
    """Units compete inside a pool, and each pool keeps at least one."""
    parameters: Int[Tensor, " unit"]
    """Numbers in the weights that belong to each, and that go with it where it is taken out of the tensors."""
    __repr__ = fields_repr

    def __len__(self) -> int:
        """How many units there are."""
        return len(self.names)

    def sums(self, values: Mapping[str, Float[Tensor, " neuron"]]) -> Float[Tensor, " unit"]:
        """Add up what the neurons of each unit are worth.

        Args:
            values: One number per neuron, by group.

        Returns:
            One number per unit.
        """
        total = torch.zeros(len(self), dtype=torch.float64)
        for name, own in self.of.items():
            total.index_add_(0, own, values[name].double())
        return total

    def without(self, everything: NeuronMask, gone: Iterable[int]) -> NeuronMask:
        """Remove some units.

        Args:
            everything: A mask, of which what it removes stays removed.
            gone: Their numbers.

        Returns:
            The mask.
        """
        numbers = torch.tensor(sorted(gone), dtype=torch.long)
        kept = {name: everything[name] & ~torch.isin(own, numbers) for name, own in self.of.items()}
        return everything.with_kept(everything.kept | kept)

    def removed(self, mask: Mapping[str, Tensor]) -> list[int]:
        """List the units of which no neuron stays.

        Args:
            mask: Which neurons stay.

        Returns:
            Their numbers, in increasing order.
        """
        stays = self.sums({name: mask[name] for name in self.of})
        return (stays == 0).nonzero().flatten().tolist()

    def lowest_like(self, values: Float[Tensor, " unit"], gone: Sequence[int]) -> list[int]:
        """Take as many of each pool as others have gone, those of the lowest values.

        Args:
            values: One number per unit.
            gone: UnitSet of which there are to be as many.

        Returns:
            Numbers of units.
        """
        taken: list[int] = []
        for pool in self.pools.unique():
            inside = (self.pools == pool).nonzero().flatten()
            count = int(torch.isin(inside, torch.tensor(list(gone), dtype=torch.long)).sum())
            taken += inside[values[inside].argsort(stable=True)[:count]].tolist()
        return taken

    def random_like(self, gone: Sequence[int], seed: int) -> list[int]:
        """Draw as many of each pool as others have gone: the control for any claim of a choice.

        Args:
            gone: UnitSet of which there are to be as many.
            seed: For the draw.

        Returns:
            Numbers of units.
        """
        return self.lowest_like(torch.rand(len(self), generator=torch.Generator().manual_seed(seed)), gone)


def units_of(
    model: PreTrainedModel, groups: tuple[NeuronGroup, ...], kind: Unit, allocation: Allocation = "uniform"
) -> UnitSet:
    """Find the units of a kind.

    Args:
        model: The model.
        groups: Its neuron groups.
        kind: Which units; not neurons, which go one by one.
        allocation: Whether every layer loses as many, or all layers compete; blocks and layers always do.

    Returns:
        The units.

    Raises:
        ConfigError: The model has no units of this kind of which some can go.
    """
    if kind in ("blocks", "layers"):
        return _whole(model, groups, kind)
    members = _divided(model, groups, kind)
    of: dict[str, Tensor] = {}
    names: list[str] = []
    pools: list[int] = []
    parameters: list[int] = []
    for number, (group, own) in enumerate(members):
        count = int(own.max()) + 1
        of[group.name] = own + len(names)
        size = _size(model, _around(group)) // count
        names += [f"layer {group.layer}, {kind[:-1]} {one}" for one in range(count)]
        pools += [number if allocation == "uniform" else 0] * count
        parameters += [size] * count
    return UnitSet(kind, tuple(names), of, torch.tensor(pools), torch.tensor(parameters))


def _divided(model: nn.Module, groups: tuple[NeuronGroup, ...], kind: Unit) -> list[tuple[NeuronGroup, Tensor]]:
    """The groups of which a part can go, with the part that each neuron belongs to."""
    if kind == "experts":
        found = [
            (group, torch.arange(group.size) // (group.size // (group.experts or 1))) for group in routed_groups(model, groups)
        ]
        remedy = "it has no experts, or they are modules of their own. Choose another unit"
    else:
        found = [(group, unit_of_neuron(group)) for group in groups if group.kind == "attention"]
        found = [(group, own) for group, own in found if int(own.max()) > 0]
        remedy = "its attention has a single one in each layer, or heads that cannot be told apart. Choose another unit"
    if not found:
        what = "Experts that lie in one tensor" if kind == "experts" else "Several key-value groups, of which one must stay,"
        raise ConfigError(f"{what} are needed for unit={kind!r}, but of this {type(model).__name__} {remedy}.")
    return found


def _whole(model: nn.Module, groups: tuple[NeuronGroup, ...], kind: Unit) -> UnitSet:
    """Layers, or the blocks in them, all of which compete."""
    keys = [(group.stack, group.layer, *((group.kind,) if kind == "blocks" else ())) for group in groups]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    of = {
        group.name: torch.full((group.size,), numbers[key], dtype=torch.long) for group, key in zip(groups, keys, strict=True)
    }
    members = {key: [group for group, own in zip(groups, keys, strict=True) if own == key] for key in numbers}
    if kind == "layers":
        names = [f"layer {key[1]}" for key in numbers]
        sizes = [_size(model, f"{key[0]}.{key[1]}") for key in numbers]
    else:
        names = [f"layer {key[1]}, {'FFN' if key[2] == 'ffn' else key[2]}" for key in numbers]
        sizes = [sum(_size(model, _around(group)) for group in own) for own in members.values()]
    if len(numbers) < 2:  # noqa: PLR2004 (one that goes, and one that stays)
        raise ConfigError(f"At least two {kind} are needed for unit={kind!r}, got a {type(model).__name__} of one.")
    return UnitSet(kind, tuple(names), of, torch.zeros(len(numbers), dtype=torch.long), torch.tensor(sizes))


def _around(group: NeuronGroup) -> str:
    """The innermost module that holds all projections of a group."""
    return group.name.rpartition(".")[0] if group.experts else module_around(group)


def _size(model: nn.Module, path: str) -> int:
    """Numbers in the parameters of a module."""
    return sum(one.numel() for one in model.get_submodule(path).parameters())
