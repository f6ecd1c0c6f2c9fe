"""Everything public, found by the doors: functions, classes, and the classes that callers meet by them."""

import dataclasses
import inspect
from typing import Any, get_args, get_origin

import hf_untangle

untangle: Any = hf_untangle
ROOMS = [untangle, *(room for name in untangle.__all__ if inspect.ismodule(room := getattr(untangle, name)))]
FUNCTIONS = {
    f"{one.__module__}.{one.__name__}": one
    for room in ROOMS
    for name in room.__all__
    if inspect.isfunction(one := getattr(room, name)) and inspect.signature(one).parameters
}
"""Every public function that takes something."""
DOORS = {one for room in ROOMS for name in room.__all__ if inspect.isclass(one := getattr(room, name))}
"""Every public class."""


def held(annotation: Any) -> set[type]:
    """The classes that stand in an annotation."""
    found = set().union(*map(held, get_args(annotation)))
    return found | {annotation} if inspect.isclass(annotation) and get_origin(annotation) is None else found


def reachable() -> set[type]:
    """Every class of this package that a caller meets: public, returned by a public function, or in a field of such a one."""
    found: set[type] = set()
    left = DOORS.union(*(held(kind) for call in FUNCTIONS.values() for kind in call.__annotations__.values()))
    while left:
        one = left.pop()
        if one in found or not one.__module__.startswith("hf_untangle."):
            continue
        found.add(one)
        fields = dataclasses.fields(one) if dataclasses.is_dataclass(one) else ()
        left |= set(one.__mro__[1:]).union(*(held(field.type) for field in fields))
    return found


def foreign(one: type) -> set[str]:
    """What libraries call a class by, such as `forward`."""
    return {name for base in one.__mro__[1:] if not base.__module__.startswith("hf_untangle") for name in vars(base)}


CLASSES = sorted(
    (one for one in reachable() if one in DOORS or dataclasses.is_dataclass(one)),
    key=lambda one: (one.__module__, one.__name__),
)
