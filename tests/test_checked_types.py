"""What checks types while tests run: every function as by beartype, and functions in functions once."""

import pytest
from checked_types import CHECKS, checked
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor, zeros


def adding(kind: type):
    """A function made anew in every call, as hooks are."""
    second = kind(1)

    @jaxtyped(typechecker=checked)
    def add(one: kind, other: kind = second) -> kind:
        return one + other

    return add


def test_arguments_and_results_are_checked_whenever_a_function_is_made():
    for _ in range(2):
        assert adding(int)(1) == 2
        with pytest.raises(TypeCheckError, match="one"):
            adding(int)("1")
    with pytest.raises(TypeCheckError, match="return value"):
        jaxtyped(typechecker=checked)(_half)(3)


def _half(number: int) -> int:
    return number / 2  # type: ignore[return-value]


def test_a_function_in_a_function_is_compiled_once_for_the_same_types():
    adding(int)(1)
    before = len(CHECKS)
    assert adding(int)(1, 2) == 3
    assert len(CHECKS) == before
    assert adding(str)("a") == "a1"
    assert len(CHECKS) > before
    with pytest.raises(TypeCheckError, match="one"):
        adding(str)(1)


def test_names_of_sizes_hold_between_arguments():
    @jaxtyped(typechecker=checked)
    def both(one: Float[Tensor, " width"], other: Float[Tensor, " width"]) -> int:
        return len(one) + len(other)

    assert both(zeros(2), zeros(2)) == 4
    with pytest.raises(TypeCheckError, match="other"):
        both(zeros(2), zeros(3))
