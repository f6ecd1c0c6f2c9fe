"""Types that are checked while tests run, by beartype, which compiles a check of every function.

It is compiled when it is first needed, and once: a function in a function is made anew in every call of the outer one.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype

Function = Callable[..., Any]

CHECKS: dict[tuple[Any, ...], Function] = {}


def checked(signature: Function) -> Function:
    """Check types when a function is called.

    Args:
        signature: A function without a body that has the parameters and types of the function, as jaxtyping makes it.

    Returns:
        The same function, which raises when types do not fit.
    """
    own: list[Function] = []

    def check(*args: Any, **kwargs: Any) -> Any:
        if not own:
            own.append(_check_of(signature))
        return own[0](*args, **kwargs)

    return check


def _check_of(signature: Any) -> Function:
    """Compile a check, or find that of a function from the same line with the same types."""
    defaults = (len(signature.__defaults__ or ()), *(signature.__kwdefaults__ or ()))
    key = (signature.__module__, signature.__qualname__, signature.__code__.co_varnames, defaults)
    key += tuple(signature.__annotations__.items())
    try:
        if key not in CHECKS:
            CHECKS[key] = beartype(signature)
        return CHECKS[key]
    except TypeError:  # Some types have no hash.
        return beartype(signature)
