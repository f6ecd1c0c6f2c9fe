"""Arguments of a wrong kind are refused before anything is done with them, in one sentence: annotations say what fits."""

import os
import reprlib
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, wraps
from inspect import Parameter, Signature, isfunction, signature
from itertools import chain, islice, repeat
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

from hf_untangle.errors import ArgumentError
from hf_untangle.tensor_kinds import (
    holds_nan,
    is_tensor_kind,
    other_size,
    sizes_of,
    tensor_as_given,
    tensor_fits,
    tensor_in_words,
)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Made = TypeVar("Made")
PACKAGE = "hf_untangle"

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


def checked_arguments(call: Callable[Parameters, Result], *, nan: bool = False) -> Callable[Parameters, Result]:
    """Make a function refuse arguments of a wrong kind with `ArgumentError`, before it begins.

    What fits is what its annotations say, read with good will: a wrapper of a model is a model, whatever can be called is a
    tokenizer, a number of NumPy is a number, a list is as good as a tuple. Of a tensor that is the kind of its numbers, its
    dimensions, sizes that have one name in two arguments, and that no number is NaN. Other values are the business of the
    function itself.

    Args:
        call: A function with annotations.
        nan: Whether tensors may hold NaN.

    Returns:
        The same function, which checks what it is given.
    """

    @wraps(call)
    def complete(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        _check(call, args, kwargs, nan)
        return call(*args, **kwargs)

    return complete


def checked_calls(kind: type[Made], *, nan: bool = False) -> type[Made]:
    """Make a class refuse arguments of a wrong kind, as `checked_arguments` does: those of its constructor and public methods.

    What a library calls by its name, such as `forward` of a module, is left alone, and so are methods that are inherited: the
    class that has them is to be decorated itself.

    Args:
        kind: A dataclass, or another class with annotations.
        nan: Whether tensors may hold NaN, as sums that were measured do where the model overflowed.

    Returns:
        The same class.
    """
    foreign = {name for base in kind.__mro__[1:] if base.__module__.partition(".")[0] != PACKAGE for name in vars(base)}
    for name, method in list(vars(kind).items()):
        if name != "__init__" and (name.startswith("_") or name in foreign):
            continue
        call = getattr(method, "__func__", method)
        if not isfunction(call) or not kinds_of(call):
            continue
        checked = checked_arguments(call, nan=nan)
        setattr(kind, name, checked if call is method else type(method)(checked))
    return kind


def _check(call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], nan: bool) -> None:
    """Refuse what does not fit; arguments that are missing or too many are left to the call itself."""
    try:
        given = _signature(call).bind_partial(*args, **kwargs).arguments
    except TypeError:
        return
    kinds, whose = kinds_of(call), call.__qualname__.removesuffix(".__init__")
    for name, value in given.items():
        kind = kinds.get(name, Any)
        if not fits(value, kind):
            raise ArgumentError(f"`{name}` of `{whose}` must be {in_words(kind)}, got {shown(value, kind)}.")
        if not nan and any(holds_nan(tensor, one) for tensor, one in _tensors(value, kind)):
            raise ArgumentError(f"`{name}` of `{whose}` must be {in_words(kind)}, got NaN in it.")
    _check_sizes(whose, given, kinds)


def _tensors(value: Any, kind: Any) -> Iterable[tuple[Any, Any]]:
    """The tensors in an argument that fits, each with its annotation, those in mappings and tuples too."""
    for one in filter(_holds_tensors, _parts(kind)):
        if is_tensor_kind(one) and fits(value, one):
            yield value, one
        elif isinstance(value, dict | list | tuple) and fits(value, one):
            parts = get_args(one)
            each = value.values() if isinstance(value, dict) else value
            whose = parts if _is_fixed(get_origin(one), parts) else repeat(parts[-1 if isinstance(value, dict) else 0])
            yield from chain.from_iterable(map(_tensors, each, whose))


@cache
def _holds_tensors(kind: Any) -> bool:
    """Tell whether an annotation has one of a tensor in it."""
    if is_tensor_kind(kind):
        return kind.array_type is not Any
    return get_origin(kind) is not Callable and any(map(_holds_tensors, get_args(kind)))


def _check_sizes(whose: str, given: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Refuse tensors that have different sizes where their annotations have one name for both."""
    known: dict[str, tuple[str, int]] = {}
    for name, value in given.items():
        kind = next((one for one in _parts(kinds.get(name)) if is_tensor_kind(one) and fits(value, one)), None)
        if kind is None or not hasattr(value, "shape"):
            continue
        if (other := other_size(value, kind, known)) is not None:
            size, first, wanted = other
            raise ArgumentError(
                f"`{name}` of `{whose}` must be {in_words(kind)} whose `{size}` is {wanted}, as it is in `{first}`, got "
                f"{shown(value, kind)}."
            )
        known |= {size: (name, length) for size, length in sizes_of(value, kind).items()}


def _parts(kind: Any) -> tuple[Any, ...]:
    """The kinds of which a value may be any."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


@cache
def _signature(call: Callable[..., Any]) -> Signature:
    """The signature of a function."""
    return signature(call)


@cache
def kinds_of(call: Callable[..., Any]) -> dict[str, Any]:
    """Read off a function what its arguments may be.

    Args:
        call: A function with annotations.

    Returns:
        An annotation for every parameter that has one, those that only type checkers know left out.
    """
    named = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    stated = {name: one.annotation for name, one in _signature(call).parameters.items() if one.kind in named}
    return {name: kind for name, kind in stated.items() if kind is not Parameter.empty and not isinstance(kind, str)}


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
        if not _is_collection(value, origin) or (_is_fixed(origin, parts) and len(value) != len(parts)):
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


def _is_fixed(kind: type, parts: tuple[Any, ...]) -> bool:
    """Tell whether a kind of tuple has so many members and no more."""
    return issubclass(kind, tuple) and bool(parts) and parts[-1] is not Ellipsis


def _members(value: Any, kind: type, parts: tuple[Any, ...]) -> Iterable[tuple[Any, Any]]:
    """The first members of a collection that can be read twice, each with what it must be."""
    if issubclass(kind, Mapping) and isinstance(value, dict) and len(parts) == 2:
        return [(one, each) for pair in islice(value.items(), LOOKED_AT) for one, each in zip(pair, parts, strict=True)]
    if not isinstance(value, list | tuple | set | frozenset) or not parts:
        return ()
    if _is_fixed(kind, parts):
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
    whole = f"a tuple of {len(parts)}" if _is_fixed(kind, parts) else whole
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
    for one in _parts(kind):
        if is_tensor_kind(one) and one.array_type is not Any and isinstance(value, one.array_type):
            return tensor_as_given(value, one)
        origin = get_origin(one)
        if isinstance(origin, type) and origin is not Callable and _is_collection(value, origin):
            wrong = next(
                (shown(each, part) for each, part in _members(value, origin, get_args(one)) if not fits(each, part)), ""
            )
            return f"{text} that holds {wrong}" if wrong else text
    return text
