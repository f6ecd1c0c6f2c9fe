"""Experts that are a module each: those that no dummy token reached, told by those that one did."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from torch import nn

from hf_untangle.architecture.neurons import NeuronGroup


def with_unvisited_experts(
    model: nn.Module, groups: Iterable[NeuronGroup], visited: Collection[str]
) -> tuple[NeuronGroup, ...]:
    """Add the neurons of experts that were not run, after those of the expert that is built like them.

    Args:
        model: The model.
        groups: The groups that were found.
        visited: The projections that ran, by their paths.

    Returns:
        All of them, those of routed experts marked as such.
    """
    found: list[NeuronGroup] = []
    for group in groups:
        names = _unvisited(model, group, visited)
        # Of several experts that ran, the first speaks for all that did not.
        spoken_for = {each.name for each in found}
        found.append(replace(group, experts=1) if names else group)
        found.extend(_like(group, name) for name in names if name not in spoken_for)
    return tuple(found)


def _unvisited(model: nn.Module, group: NeuronGroup, visited: Collection[str]) -> list[str]:
    """The output projections of the same list of modules, built alike, that did not run."""
    parts = group.name.split(".")
    for place in range(len(f"{group.stack}.{group.layer}".split(".")), len(parts)):
        experts = model.get_submodule(".".join(parts[:place]))
        if isinstance(experts, nn.ModuleList):
            like = _shapes(experts[int(parts[place])])
            names = [
                ".".join([*parts[:place], number, *parts[place + 1 :]])
                for number, expert in experts.named_children()
                if _shapes(expert) == like
            ]
            return [name for name in names if name not in visited]
    return []


def _shapes(module: nn.Module) -> dict[str, object]:
    """How a module is built: the classes and the shapes in it, by their paths."""
    classes: dict[str, object] = {name: type(part) for name, part in module.named_modules()}
    return classes | {f"{name}:": parameter.shape for name, parameter in module.named_parameters()}


def _like(group: NeuronGroup, name: str) -> NeuronGroup:
    """The group of an expert that is built like that of another."""
    old, new = group.name.split("."), name.split(".")
    place = next(index for index, (one, other) in enumerate(zip(old, new, strict=True)) if one != other)
    before, after = ".".join(old[: place + 1]) + ".", ".".join(new[: place + 1]) + "."
    own = all(producer.name.startswith(before) for producer in group.producers)
    producers = tuple(replace(each, name=after + each.name.removeprefix(before)) for each in group.producers if own)
    return replace(group, name=name, producers=producers, experts=1)
