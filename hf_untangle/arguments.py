"""Arguments of a wrong kind are refused before anything is done with them, in one sentence: annotations say what fits."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from inspect import Parameter, Signature, isfunction, signature
from itertools import chain, repeat
from typing import Any, ParamSpec, TypeVar, get_args, get_origin

from hf_untangle.errors import ArgumentError
from hf_untangle.kinds import fits, in_words, members_are_fixed, parts_of, shown
from hf_untangle.tensor_kinds import holds_nan, is_tensor_kind, other_size, sizes_of

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Made = TypeVar("Made")
PACKAGE = "hf_untangle"


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
    for one in filter(_holds_tensors, parts_of(kind)):
        if is_tensor_kind(one) and fits(value, one):
            yield value, one
        elif isinstance(value, dict | list | tuple) and fits(value, one):
            parts = get_args(one)
            each = value.values() if isinstance(value, dict) else value
            whose = parts if members_are_fixed(get_origin(one), parts) else repeat(parts[-1 if isinstance(value, dict) else 0])
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
        kind = next((one for one in parts_of(kinds.get(name)) if is_tensor_kind(one) and fits(value, one)), None)
        if kind is None or not hasattr(value, "shape"):
            continue
        if (other := other_size(value, kind, known)) is not None:
            size, first, wanted = other
            raise ArgumentError(
                f"`{name}` of `{whose}` must be {in_words(kind)} whose `{size}` is {wanted}, as it is in `{first}`, got "
                f"{shown(value, kind)}."
            )
        known |= {size: (name, length) for size, length in sizes_of(value, kind).items()}


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
