"""Types that are checked while tests run, by beartype, which compiles a check of every function.

It is compiled when it is first needed, and once: a function in a function is made anew in every call of the outer one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from beartype import beartype
from jaxtyping import install_import_hook

Function = Callable[..., Any]

CHECKS: dict[tuple[Any, ...], Function] = {}

PACKAGE = Path(__file__).parent.parent / "hf_untangle"


def check_modules_with_shapes() -> None:
    """Check types in the modules that say shapes of tensors, once they are imported.

    All others are checked statically alone: what is called most has no tensor, and would take a third of the time of all tests.
    """
    pages = [page.relative_to(PACKAGE.parent) for page in PACKAGE.rglob("*.py") if "from jaxtyping import" in page.read_text()]
    names = [".".join(page.with_suffix("").parts) for page in pages]
    # Constructors that refuse wrong arguments are made there, and jaxtyping leaves them alone where it has seen them.
    install_import_hook([*names, "hf_untangle.arguments"], "checked_types.checked")


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
