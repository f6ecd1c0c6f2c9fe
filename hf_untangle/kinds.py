"""What an annotation says of a value: whether it fits, and both in words."""

import os
import reprlib
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from hf_untangle.tensor_kinds import is_tensor_kind, tensor_as_given, tensor_fits, tensor_in_words

LOOKED_AT = 64
"""Members of a collection whose kind is looked at; a collection may have millions."""
WORDS = {
    "Module": "a model",
    "PreTrainedModel": "a model",
    "PreTrainedTokenizerBase": "a tokenizer",
    "NeuronGroup": "a neuron group, as `neuron_groups` finds them",
    "Tensor": "a tensor",
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "Path": "a path",
    "NoneType": "None",
}
"""What classes are called in messages, where it is not by their name."""


def parts_of(kind: Any) -> tuple[Any, ...]:
    """List the kinds of which a value may be any.

    Args:
        kind: An annotation.

    Returns:
        The members of a union, or the kind alone.
    """
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def members_are_fixed(kind: type, parts: tuple[Any, ...]) -> bool:
    """Tell whether a kind of tuple has so many members and no more.

    Args:
        kind: A class of collections.
        parts: What its annotation says of members.

    Returns:
        Whether it does.
    """
    return issubclass(kind, tuple) and bool(parts) and parts[-1] is not Ellipsis


def fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of a kind.

    Args:
        value: Any value.
        kind: An annotation. What is not understood of it fits everything.

    Returns:
        Whether it fits.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, TypeVar):
        return kind.__bound__ is None or fits(value, kind.__bound__)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in parts)
    if origin is typing.Annotated:
        return fits(value, parts[0])
    if origin is typing.Literal:
        return any(isinstance(value, type(choice)) for choice in parts)
    if origin is Callable:
        return callable(value)
    if isinstance(origin, type):
        if not _is_collection(value, origin) or (members_are_fixed(origin, parts) and len(value) != len(parts)):
            return False
        return all(fits(one, each) for one, each in _members(value, origin, parts))
    if kind is None:
        return value is None
    return _is_one(value, kind) if isinstance(kind, type) else True


def _is_one(value: Any, kind: Any) -> bool:
    """Tell whether a value is one of a class, or as good as one."""
    name = kind.__name__
    if is_tensor_kind(kind):
        return tensor_fits(value, kind)
    if name == "PreTrainedModel":
        # Wrappers hold such a model, and what may not be wrapped says so itself.
        return any(base.__name__ == "Module" and isinstance(value, base) for base in kind.__mro__)
    if name == "PreTrainedTokenizerBase":
        return callable(value)
    if kind in (int, float):
        alone = getattr(value, "ndim", 0) == 0
        return alone and (hasattr(value, "__index__") or (kind is float and hasattr(value, "__float__")))
    if kind is str or issubclass(kind, PurePath):
        return isinstance(value, str | os.PathLike)
    try:
        return kind is bool or isinstance(value, kind)
    except TypeError:  # A protocol that cannot be asked.
        return True


def _is_collection(value: Any, kind: type) -> bool:
    """Tell whether a value is a collection of a kind: any with a length is as good as a list; text is none."""
    if issubclass(kind, type):
        return isinstance(value, type)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping)
    if isinstance(value, str | bytes):
        return False
    if issubclass(kind, Collection):
        return isinstance(value, kind) or (isinstance(value, Collection) and not isinstance(value, Mapping))
    return isinstance(value, kind)


def _members(value: Any, kind: type, parts: tuple[Any, ...]) -> Iterable[tuple[Any, Any]]:
    """The first members of a collection that can be read twice, each with what it must be."""
    if issubclass(kind, Mapping) and isinstance(value, dict) and len(parts) == 2:
        return [(one, each) for pair in islice(value.items(), LOOKED_AT) for one, each in zip(pair, parts, strict=True)]
    if not isinstance(value, list | tuple | set | frozenset) or not parts:
        return ()
    if members_are_fixed(kind, parts):
        return zip(value, parts, strict=False)
    return ((one, parts[0]) for one in islice(value, LOOKED_AT))


def in_words(kind: Any) -> str:
    """Say what a kind is.

    Args:
        kind: An annotation.

    Returns:
        Such as `a model or a path`.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, TypeVar):
        return in_words(kind.__bound__)
    if origin in (Union, UnionType):
        words = list(dict.fromkeys(in_words(one) for one in parts if one is not NoneType))
        words += ["None"] if NoneType in parts else []
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    if origin is typing.Annotated:
        return in_words(parts[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, parts))
    if origin is Callable:
        return "a function"
    if isinstance(origin, type):
        return _collection_in_words(origin, parts)
    if is_tensor_kind(kind):
        return tensor_in_words(kind)
    name = getattr(kind, "__name__", str(kind))
    return WORDS.get(name, f"{'an' if name[0] in 'AEIOU' else 'a'} {name}")


def _collection_in_words(kind: type, parts: tuple[Any, ...]) -> str:
    """Say what a collection holds."""
    if issubclass(kind, type):
        return "a class"
    if issubclass(kind, Mapping):
        return "a mapping" if len(parts) < 2 or Any in parts else f"a mapping from {in_words(parts[0])} to {in_words(parts[1])}"
    members = list(dict.fromkeys(in_words(one) for one in parts if one not in (Any, Ellipsis)))
    whole = "a collection" if issubclass(kind, Collection) else "an iterable"
    whole = f"a tuple of {len(parts)}" if members_are_fixed(kind, parts) else whole
    return f"{whole} of which each is {' or '.join(members)}" if members else whole


def shown(value: Any, kind: Any = Any) -> str:
    """Say what was given: a value where it is short to say, else its class, and of a collection the member that is wrong.

    Args:
        value: Any value.
        kind: What it should have been.

    Returns:
        Such as `None`, or `a Linear`.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return reprlib.repr(value)
    name = type(value).__name__
    text = f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
    for one in parts_of(kind):
        if is_tensor_kind(one) and one.array_type is not Any and isinstance(value, one.array_type):
            return tensor_as_given(value, one)
        origin = get_origin(one)
        if isinstance(origin, type) and origin is not Callable and _is_collection(value, origin):
            wrong = next(
                (shown(each, part) for each, part in _members(value, origin, get_args(one)) if not fits(each, part)), ""
            )
            return f"{text} that holds {wrong}" if wrong else text
    return text
