"""Sweeps of language models: by corpus, weight by weight and neuron by neuron."""

import pytest
import torch
from toy_languages import BLOCK, WORDS

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import token_blocks
from hf_untangle.density import measure, sweep
from hf_untangle.errors import ConfigError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask

COARSE = {"grid": (0.1, 0.3, 0.6, 1.0), "refine": 0.05, "progress": False}


@pytest.fixture(scope="module")
def words(tokenizer):
    """Held-out and train blocks of one toy language."""
    parts = ("validation", "train")
    return [token_blocks(WORDS, tokenizer, tokens=1024, part=part, block_size=BLOCK) for part in parts]


@pytest.fixture
def accuracy(words):
    return measure.next_token_measure(*words, "accuracy")


def test_a_corpus_alone_is_enough(toy_model, tokenizer, untouched, monkeypatch):
    monkeypatch.setattr(measure, "BLOCK_SIZE", BLOCK)
    with untouched(toy_model):
        result = sweep(toy_model, WORDS, tokenizer=tokenizer, **COARSE)
    assert 0 < result.first < 1
    assert result.base > 0.5
    assert result.resolution is not None and 1 / 6200 < result.resolution < 0.01


def test_perplexity_is_judged_by_the_loss(toy_model, words, untouched):
    by_loss = measure.next_token_measure(*words, "loss")
    with untouched(toy_model):
        result = sweep(toy_model, by_loss, tolerance="perplexity", allowed=1.5, **COARSE)
    assert result.resolution is None
    assert result.curve[0].value == result.base < result.curve[-1].value
    assert 0 < result.first < 1


@pytest.mark.parametrize("score", ["magnitude", "wanda", "random"])
def test_neurons_go_without_a_weight_being_written_to(toy_model, accuracy, untouched, score):
    with untouched(toy_model):
        result = sweep(toy_model, accuracy, unit="neurons", score=score, **COARSE)
    assert {tensor.name for tensor in result.tensors} == {group.name for group in neuron_groups(toy_model)}
    assert result.parameters > result.unprunable > 0
    assert sum(tensor.size for tensor in result.tensors) == 2 * (256 + 32)


def test_the_curve_of_neurons_is_that_of_masks(toy_model, accuracy):
    groups = neuron_groups(toy_model)
    scores = {group.name: torch.arange(group.size, dtype=torch.float32) for group in groups}
    result = sweep(toy_model, accuracy, unit="neurons", scope="layer", scores=scores, grid=(0.25,), refine=0.0, progress=False)
    kept = {group.name: torch.arange(group.size) >= group.size // 4 for group in groups}
    with masked(toy_model, NeuronMask.keep_all(groups, "toy").with_kept(kept)):
        assert result.curve[-1].value == accuracy.evaluate(toy_model)


def test_wanda_of_a_neuron_is_the_size_of_what_it_writes(toy_model, accuracy, words):
    from hf_untangle.density.neurons import score_neurons
    from hf_untangle.density.sweep_config import SweepConfig
    from hf_untangle.statistics.accumulators import observed

    groups = neuron_groups(toy_model)
    scores = score_neurons(toy_model, groups, SweepConfig(unit="neurons", score="wanda"), accuracy.calibrate)
    seen = []
    with observed(toy_model, groups[:1], lambda _, reading: seen.append(reading.values.flatten(0, -2))), torch.no_grad():
        accuracy.calibrate(toy_model)
    z, columns = torch.cat(seen), toy_model.get_submodule(groups[0].name).weight
    expected = (z[:, :, None] * columns.T[None]).square().sum(-1).mean(0).sqrt()
    torch.testing.assert_close(scores[groups[0].name], expected.detach(), rtol=1e-4, atol=1e-6)


def test_scores_of_another_model_are_refused(toy_model, accuracy):
    with pytest.raises(ConfigError, match="scores must hold one number for each neuron of every group"):
        sweep(toy_model, accuracy, unit="neurons", scores={"elsewhere": torch.ones(3)}, progress=False)


def test_all_that_is_left_without_any_neuron_is_nothing(toy_model, accuracy):
    result = sweep(toy_model, accuracy, unit="neurons", grid=(1.0,), refine=0.0, progress=False)
    assert result.curve[-1].parameters == result.parameters


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_swept_as_it_is(toy_model, words, untouched, dtype):
    model = toy_model.to(dtype)
    with untouched(model):
        result = sweep(model, measure.next_token_measure(*words, "accuracy"), grid=(0.5,), refine=0.0, progress=False)
    assert result.curve[-1].parameters == result.parameters // 2
