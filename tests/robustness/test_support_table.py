"""The whole life of tiny models of all types: every step works, or is refused in a sentence. The long form is slow."""

from pathlib import Path

import pytest

from hf_untangle.errors import UntangleError
from hf_untangle.survey.lifecycle import FAULT, Life, _tried, life_of
from hf_untangle.survey.survey import quiet

LOCATED = (Path(__file__).parents[1] / "located_types.txt").read_text().split()
DIFFERENT = ("llama", "gpt2", "mixtral", "deepseek_v2", "recurrent_gemma", "modernbert-decoder", "bloom")
"""Gated and plain, experts, latent attention, recurrent blocks, an encoder turned decoder, heads without a setting."""
REFUSALS = (
    "Nothing can be taken out of this",
    "A uniform layout needs layers of one width",
    "The smaller ",
    "must ",
)
"""What the sentences that refuse a step say."""


def led(model_type: str, task: str = "causal-lm") -> Life:
    """Lead a model of a type through its life, and check that its account is whole and holds no fault."""
    with quiet():
        life = life_of(model_type, task)
    assert not life.faults
    assert {"unlearn", "reload", "masked", "remove folder", "ragged", "uniform"} <= life.steps.keys()
    for sentence in filter(None, life.steps.values()):
        assert any(one in sentence for one in REFUSALS), sentence
    return life


@pytest.mark.parametrize("model_type", DIFFERENT)
def test_types_that_differ_live_a_whole_life(model_type):
    assert led(model_type).unlearns


@pytest.mark.slow
@pytest.mark.parametrize("model_type", LOCATED)
def test_every_located_type_lives_a_whole_life(model_type):
    led(model_type)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["bert", "roberta", "albert", "deberta", "deberta-v2", "modernbert"])
def test_masked_language_models_live_a_whole_life(model_type):
    led(model_type, "masked-lm")


def test_a_step_that_fails_otherwise_is_a_fault():
    def refused() -> bool:
        raise UntangleError("A sentence.")

    assert [_tried(lambda: True), _tried(refused)] == ["", "A sentence."]
    assert _tried(lambda: False) == f"{FAULT}other outputs"
    assert _tried(lambda: [][0]) == f"{FAULT}IndexError: list index out of range"
