"""Whatever line an interrupt or an error comes at, a call has done all of its work, or has left no trace."""

import sys
from collections.abc import Callable

import pytest
from injection import Injected, chosen_lines, differences, everything, interrupted_at, lines_of
from situations import CHEAP, SITUATIONS, Material, Situation, weights_of

from hf_untangle.architecture.locate import neuron_groups

INJECTIONS = 1_000
"""How many exceptions the long form injects, over all calls."""
SHORT = 3
"""How many the short form injects into each of a few calls."""


def traces_of(make: Callable[[], Situation], count: int) -> list[str]:
    """Interrupt a call `count` times, and say what each interrupt left."""
    undisturbed = make()
    lines = lines_of(undisturbed.call)
    done = weights_of(everything(undisturbed.model))
    left = []
    for turn, number in enumerate(chosen_lines(lines, count, seed=0)):
        situation = make()
        before = everything(situation.model)
        error = (Injected, RuntimeError)[turn % 2]
        try:
            with interrupted_at(number, error):
                situation.call()
        except BaseException:
            found = differences(everything(situation.model), before)
        else:  # It came at the very end, or where errors are part of the work.
            found = differences(weights_of(everything(situation.model)), done)
        if found:
            left.append(f"{error.__name__} at line {number} of {len(lines)}, {lines[number]}: {', '.join(sorted(found)[:5])}")
    return left


@pytest.fixture
def make(tiny_model, taught, unlearned, tokenizer, blocks, tmp_path, monkeypatch) -> Callable[..., Callable[[], Situation]]:
    """Prepare a situation, with an empty cache, so that no call continues where another one was stopped."""
    material, numbers = Material(tiny_model, taught, unlearned, tokenizer, blocks), iter(range(10**6))

    def prepare(situation: Callable[[Material], Situation]) -> Callable[[], Situation]:
        def prepared() -> Situation:
            monkeypatch.setenv("HF_UNTANGLE_CACHE", str(tmp_path / f"cache-{next(numbers)}"))
            return situation(material)

        return prepared

    return prepare


@pytest.mark.parametrize("situation", CHEAP, ids=lambda one: one.__name__)
def test_an_interrupted_call_leaves_no_trace(situation, make):
    assert traces_of(make(situation), SHORT) == []


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
def test_a_thousand_interrupts_leave_no_trace(situation, make):
    assert traces_of(make(situation), -(-INJECTIONS // len(SITUATIONS))) == []


def test_the_lines_of_a_call_are_traced_and_interrupted(tiny_model):
    model = tiny_model("llama")
    assert len(set(lines_of(lambda: neuron_groups(model)))) > 100
    with pytest.raises(Injected, match="hf_untangle"), interrupted_at(10, Injected):
        neuron_groups(model)
    assert sys.gettrace() is None
