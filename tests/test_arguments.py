"""Arguments of a wrong kind: one sentence from the door, whatever the function and the argument."""

import inspect
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pytest
import torch
from jaxtyping import Float
from public_classes import CLASSES, DOORS, FUNCTIONS, foreign
from pydantic import BaseModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_untangle
from hf_untangle.arguments import checked_arguments, kinds_of
from hf_untangle.config import Config
from hf_untangle.errors import ArchitectureError, ArgumentError, ConfigError, UntangleError
from hf_untangle.kinds import LOOKED_AT, fits, in_words

untangle: Any = hf_untangle
"""As no type checker sees it, which would refuse most of what is tried here."""
WRONG = (None, 3, "of no such kind", object(), nn.Linear(2, 2), {"a": object()}, [object()])
METHODS = {
    f"{one.__name__}.{name}": getattr(one, name)
    for one in CLASSES
    for name, method in vars(one).items()
    if inspect.isfunction(call := getattr(method, "__func__", method))
    and kinds_of(call)
    and (name == "__init__" or not (name.startswith("_") or name in foreign(one)))
    and not (name == "__init__" and issubclass(one, BaseModel))
}
"""The constructors and public methods of all of them."""
MODELS = sorted((one for one in DOORS if issubclass(one, BaseModel)), key=lambda one: one.__name__)
Bound = TypeVar("Bound", bound=nn.Module)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_refuses_what_its_annotations_rule_out_in_one_sentence(name):
    call = FUNCTIONS[name]
    refused = 0
    for argument, kind in kinds_of(call).items():
        for wrong in WRONG:
            if not fits(wrong, kind):
                with pytest.raises(ArgumentError) as caught:
                    call(**{argument: wrong})
                sentence = str(caught.value)
                assert sentence.startswith(f"`{argument}` of `{call.__qualname__}` must be ")
                assert ", got " in sentence and sentence.endswith(".") and ". " not in sentence
                refused += 1
    assert refused or name.endswith("import_spline_layer")


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_public_classes_do_so_too(name):
    call = METHODS[name]
    kinds = kinds_of(getattr(call, "__func__", call))
    first = () if inspect.ismethod(call) else (None,)
    for argument, kind in kinds.items():
        for wrong in (wrong for wrong in WRONG if argument not in ("self", "cls") and not fits(wrong, kind)):
            with pytest.raises(ArgumentError, match=f"`{argument}` of `.*` must be .*, got "):
                call(*first, **{argument: wrong})


def test_what_is_gone_over_is_what_callers_meet():
    """A test over all of something is worth nothing where all is little."""
    names = {one.__name__ for one in CLASSES}
    assert {"NeuronMask", "TokenBlocks", "UnlearnResult", "NeuronGroup", "Producer", "Moments", "PrunePlan"} <= names
    assert len(CLASSES) > 70 and len(METHODS) > 140
    assert {"NeuronMask.__init__", "NeuronMask.with_kept", "TokenBlocks.batches", "UnlearnResult.repair"} <= set(METHODS)


@pytest.mark.parametrize("model", MODELS, ids=lambda one: one.__name__)
def test_settings_and_records_refuse_what_is_wrong_in_sentences(model):
    with pytest.raises(UntangleError, match="There is no (setting|field) `no_such_thing`|field required") as caught:
        model(no_such_thing=1)
    assert isinstance(caught.value, ConfigError if issubclass(model, Config) else ArgumentError)
    assert "\n" not in str(caught.value) and "pydantic" not in str(caught.value)


def test_what_is_inside_of_others_is_refused_by_its_place():
    with pytest.raises(ArgumentError, match=r"`forget.top1`: input should be a valid number"):
        untangle.records.Scores(forget={"tokens": 3, "top1": "much", "top10": 0.5, "loss": 1.0}, retain=None)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_can_still_be_pickled(name):
    assert pickle.loads(pickle.dumps(FUNCTIONS[name])) is FUNCTIONS[name]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: untangle.neuron_groups(None), "`model` of `neuron_groups` must be a model, a text or a path, got None."),
        (lambda: untangle.unlearn(3, "code"), "`model` of `unlearn` must be a model, a text or a path, got 3."),
        (
            lambda: untangle.remove_(nn.Linear(2, 2), "mask", ()),
            "`mask` of `remove_` must be a NeuronMask, got 'mask'.",
        ),
        (
            lambda: untangle.masks.rotate_heads_(nn.Linear(2, 2), [1]),
            "`groups` of `rotate_heads_` must be a collection of which each is a neuron group, as `neuron_groups` finds them, "
            "got a list that holds 1.",
        ),
        (lambda: untangle.load(None), "`name` of `load` must be a text or a path, got None."),
        (
            lambda: untangle.compaction.remove_folder("a", "b", nn.Linear(2, 2)),
            "`mask` of `remove_folder` must be a NeuronMask, got a Linear.",
        ),
        (
            lambda: untangle.evaluation.continuations("tiny", None, ["a"]),
            "`tokenizer` of `continuations` must be a tokenizer, got None.",
        ),
    ],
)
def test_the_sentence_names_the_argument_what_must_hold_and_what_was_given(call, sentence):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Path("folder"), str),
        ("folder", Path),
        (np.int64(3), int),
        (np.float32(0.5), float),
        (torch.tensor(0.5), float),
        (nn.DataParallel(nn.Linear(2, 2)), PreTrainedModel),
        (lambda texts: texts, PreTrainedTokenizerBase),
        ([1, 2], tuple[int, ...]),
        (np.zeros(2), Sequence[float]),
        ((1, "a"), tuple[int, str]),
        ({"a": torch.zeros(2)}, Mapping[str, Float[Tensor, " neuron"]]),
        ("anything", "a name that only type checkers know"),
        (nn.Linear(2, 2), Bound),
        ("ragged", Literal["ragged", "uniform"]),
        (object(), Any),
        ([0] * LOOKED_AT + ["not looked at"], list[int]),
    ],
)
def test_what_is_as_good_as_the_annotation_fits(value, kind):
    assert fits(value, kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("text", Sequence[str]),
        ({"a": 1}, Sequence[str]),
        (["a", 1], Sequence[str]),
        ((1,), tuple[int, int]),
        ({"a": 1}, Mapping[str, str]),
        ("3", int),
        (None, PreTrainedTokenizerBase),
        (3, Literal["ragged", "uniform"]),
        (3, Bound),
        (nn.Linear, nn.Module),
    ],
)
def test_what_is_of_another_kind_does_not_fit(value, kind):
    assert not fits(value, kind)


def test_kinds_are_said_in_words():
    assert in_words(PreTrainedModel | str | Path | None) == "a model, a text, a path or None"
    assert in_words(Mapping[str, Float[Tensor, " neuron"]]) == (
        "a mapping from a text to a tensor of floating-point numbers [neuron]"
    )
    assert in_words(tuple[float, float]) == "a tuple of 2 of which each is a number"
    assert in_words(Bound) == "a model"


def test_arguments_that_are_missing_or_too_many_are_left_to_python():
    def twice(number: int) -> int:
        return 2 * number

    double: Any = checked_arguments(twice)
    assert double(2) == 4
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        double()
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        double(other=2)


def test_a_model_that_is_not_of_transformers_is_refused_by_what_reads_it():
    with pytest.raises(ArchitectureError, match="Linear"):
        untangle.neuron_groups(nn.Linear(2, 2))
