"""Tensors that are not what a public call takes: refused at the door in one sentence, whatever the call and the argument."""

import inspect
from collections.abc import Iterator, Mapping
from itertools import combinations
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
import torch
from jaxtyping import Bool, Float, Int
from public_classes import FUNCTIONS
from test_arguments import METHODS
from torch import Tensor

import hf_untangle
from hf_untangle.arguments import checked_arguments, fits, in_words, kinds_of
from hf_untangle.errors import ArgumentError, MaskError, StatisticsError
from hf_untangle.tensor_kinds import is_tensor_kind, sizes_of

untangle: Any = hf_untangle
CALLS = {
    name: call
    for name, call in {**FUNCTIONS, **METHODS}.items()
    if any("Tensor" in str(kind) for kind in kinds_of(getattr(call, "__func__", call)).values())
}
DTYPES = {"Bool": torch.bool, "Int": torch.int64, "Int64": torch.int64, "UInt8": torch.uint8, "Float": torch.float32}


def right(kind: Any, size: int = 3) -> Tensor:
    """A tensor that fits an annotation."""
    shape = [int(name) if name.isdigit() else size for name in kind.dim_str.split()]
    return torch.ones(shape, dtype=DTYPES[kind.__name__.partition("[")[0]])


def wrongs(kind: Any) -> Iterator[Tensor]:
    """Tensors that do not: of other numbers, of more dimensions or fewer, and with NaN."""
    one = right(kind)
    yield one.to(torch.complex64)
    yield one.float() if one.dtype != torch.float32 else one.long()
    names = kind.dim_str.split()
    if not any(name == "..." or name.startswith("*") for name in names):
        yield one[None]
    elif len(names) > 1:
        yield one[(0,) * (len(names) - 1)][0]
    if one.is_floating_point():
        yield one * float("nan")


def inside(kind: Any) -> Iterator[tuple[Any, Any]]:
    """Every annotation of a tensor in one of an argument, with what puts a tensor where the argument has it."""
    origin, parts = get_origin(kind), get_args(kind)
    if is_tensor_kind(kind):
        yield kind, lambda tensor: tensor
    elif origin in (Union, UnionType):
        for part in parts:
            yield from inside(part)
    elif isinstance(origin, type) and issubclass(origin, Mapping) and len(parts) == 2:
        key = 1 if parts[0] is int else "a"
        yield from ((one, lambda tensor, put=put: {key: put(tensor)}) for one, put in inside(parts[1]))
    elif origin is tuple:
        count = 1 if Ellipsis in parts else len(parts)
        yield from ((one, lambda tensor, put=put: (put(tensor),) * count) for one, put in inside(parts[0]))


@pytest.mark.parametrize("name", CALLS)
def test_tensors_of_another_kind_are_refused_by_every_public_call(name):
    call: Any = CALLS[name]
    first = (None,) if name in METHODS and not inspect.ismethod(call) else ()
    measured = name.partition(".")[0] in ("Moments", "Saliency", "Gram")
    for argument, kind in kinds_of(getattr(call, "__func__", call)).items():
        for one, put in inside(kind):
            assert fits(put(right(one)), kind)
            for wrong in wrongs(one):
                if measured and wrong.isnan().any():
                    continue
                with pytest.raises(ArgumentError) as caught:
                    call(*first, **{argument: put(wrong)})
                sentence = str(caught.value)
                assert sentence.startswith(f"`{argument}` of `") and " must be " in sentence and ", got " in sentence
                assert ". " not in sentence and ("NaN" in sentence) == bool(wrong.isnan().any())


@pytest.mark.parametrize("name", CALLS)
def test_tensors_whose_sizes_differ_are_refused_where_their_sizes_have_one_name(name):
    call: Any = CALLS[name]
    first = (None,) if name in METHODS and not inspect.ismethod(call) else ()
    tensors = {name: next(inside(kind))[0] for name, kind in kinds_of(getattr(call, "__func__", call)).items() if direct(kind)}
    for one, other in combinations(tensors, 2):
        shared = sizes_of(right(tensors[one]), tensors[one]).keys() & sizes_of(right(tensors[other]), tensors[other]).keys()
        if shared:
            with pytest.raises(ArgumentError, match=f"whose `.*` is 3, as it is in `{one}`, got a tensor of .*4"):
                call(*first, **{one: right(tensors[one]), other: right(tensors[other], 4)})


def direct(kind: Any) -> bool:
    """Tell whether an argument is a tensor, or that or nothing."""
    return is_tensor_kind(kind) or (get_origin(kind) in (Union, UnionType) and any(map(is_tensor_kind, get_args(kind))))


def test_what_is_gone_over_is_what_takes_tensors():
    tried = [name for name in CALLS if any(True for kind in kinds_of(CALLS[name]).values() for _ in inside(kind))]
    assert len(tried) > 50
    assert {"NeuronMask.__init__", "Moments.__init__", "Box.__init__", "TokenBlocks.__init__", "ReluNetwork.__init__"} <= set(
        tried
    )


def test_the_sentence_says_what_must_hold_what_was_given_and_what_to_do():
    def chosen(kept: Bool[Tensor, " neuron"], scores: Mapping[str, Float[Tensor, "token neuron"]]) -> None:
        raise AssertionError("never reached")

    checked: Any = checked_arguments(chosen)
    with pytest.raises(ArgumentError) as caught:
        checked(torch.tensor([1, 0]), {})
    assert str(caught.value).endswith(
        "must be a tensor of True and False [neuron], got a tensor of int64 [2] (make it one with `.bool()`)."
    )
    with pytest.raises(
        ArgumentError, match=r"a tensor of floating-point numbers \[token, neuron\], got a dict that holds a tensor"
    ):
        checked(torch.tensor([True]), {"a": torch.ones(2)})
    assert in_words(Int[Tensor, ""]) == "a tensor of signed whole numbers, a single one"
    assert in_words(Float[Tensor, "*batch #output 2"]) == "a tensor of floating-point numbers [batch, output, 2]"


def test_masks_say_of_some_groups_what_they_are():
    kept, mask = {"a": torch.ones(2, dtype=torch.bool)}, untangle.masks.NeuronMask
    for arguments, sentence in [
        (({}, {"a": "ffn"}, "m"), "at least one neuron group, got none"),
        ((kept, {}, "m"), "`a` is in `kept` alone"),
        ((kept, {"a": "router"}, "m"), "must be 'ffn' or 'attention', got 'router'"),
        ((kept, {"a": "ffn"}, "m", "median"), "must be 'zero' or 'mean' or 'mode', got 'median'"),
    ]:
        with pytest.raises(MaskError, match=sentence):
            mask(*arguments)


def test_statistics_are_sums_that_activations_can_have():
    def moments(**sums: Tensor) -> Any:
        ones = torch.ones(2, dtype=torch.float64)
        return untangle.statistics.Moments(
            torch.tensor(2), **dict.fromkeys(("total", "absolute", "square", "positive"), ones) | sums
        )

    assert untangle.statistics.ActivationStatistics({"a": moments()}, "m", None, "float32", ()).moments
    for wrong, fault in [
        ({"total": torch.full((2,), float("nan"))}, "infinity or NaN"),
        ({"square": torch.full((2,), float("inf"))}, "infinity or NaN"),
        ({"positive": torch.full((2,), -1.0)}, "more positive activations than tokens, or fewer than none"),
        ({"absolute": torch.full((2,), -1.0)}, "a negative sum"),
    ]:
        with pytest.raises(StatisticsError, match=fault):
            untangle.statistics.ActivationStatistics({"a": moments(**wrong)}, "m", None, "float32", ())


def test_every_message_can_be_printed():
    assert str(ArgumentError("a name \ud800 with half a character")) == "a name \\ud800 with half a character"
