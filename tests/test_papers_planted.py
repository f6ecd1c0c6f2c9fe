"""Planted neurons: a language that is planted in known neurons goes with them, and with no others."""

import pytest
import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.select import random_like
from hf_untangle.papers.planted.experiment import find_planted
from hf_untangle.papers.planted.languages import as_blocks, languages
from hf_untangle.papers.planted.planted_model import planted_entries, planted_model, small_llama

MINIATURE = {"steps": 120, "width": 32, "share": 0.25}


@pytest.fixture(scope="module")
def planted():
    return planted_model(0, **MINIATURE)


@pytest.fixture(scope="module")
def accuracies():
    """Next-token accuracy on held-out text of the first and of the second language."""
    blocks = [as_blocks(language.text(64, seed=10**6), "made", "test") for language in languages(0)]
    return lambda model: [next_token_metrics(model, one, progress=False).top1 for one in blocks]


def test_both_languages_are_learnt(planted, accuracies):
    model = planted.model
    first, second = accuracies(model)
    assert first > 0.7 and second > 0.55


def test_the_second_language_goes_with_the_planted_neurons_and_the_first_stays(planted, accuracies):
    model, mask = planted.model, planted.mask
    _, before = accuracies(model)
    with masked(model, mask):
        first, second = accuracies(model)
    assert first > 0.75
    assert second < before - 0.2


def test_what_is_left_is_what_a_model_knows_that_never_saw_the_second_language(planted, accuracies):
    model, mask = planted.model, planted.mask
    gold = planted_model(0, **MINIATURE, gold=True).model
    with masked(model, mask):
        ablated = accuracies(model)
    assert ablated == pytest.approx(accuracies(gold), abs=0.05)


def test_random_neurons_take_the_first_language_too(planted, accuracies):
    model, mask = planted.model, planted.mask
    before, _ = accuracies(model)
    with masked(model, random_like(mask, seed=1)):
        first, _ = accuracies(model)
    assert first < before - 0.1


def test_every_group_has_its_share_of_planted_neurons(planted):
    groups, mask = planted.groups, planted.mask
    assert {name: int((~kept).sum()) for name, kept in mask.items()} == {group.name: group.size // 4 for group in groups}


def test_planted_weights_of_a_gold_model_are_those_that_it_began_with(planted):
    trained = planted_model(0, **MINIATURE | {"steps": 2}, gold=True)
    gold, mask = trained.model, trained.mask
    begun = small_llama(0, MINIATURE["width"])
    for name, entries in planted_entries(gold, mask).items():
        before, after = begun.get_parameter(name), gold.get_parameter(name)
        assert torch.equal(before[entries], after[entries])
        assert not torch.equal(before[~entries], after[~entries])


def test_the_second_language_teaches_planted_weights_alone():
    trained = planted_model(0, **MINIATURE | {"steps": 1})
    both, groups, mask = trained.model, trained.groups, trained.mask
    gold = planted_model(0, **MINIATURE | {"steps": 1}, gold=True).model
    assert [group.name for group in groups] == [group.name for group in neuron_groups(gold)]
    for name, entries in planted_entries(both, mask).items():
        assert torch.equal(both.get_parameter(name)[~entries], gold.get_parameter(name)[~entries])
        if entries.any():
            assert not torch.equal(both.get_parameter(name)[entries], gold.get_parameter(name)[entries])


def test_half_of_the_words_that_both_languages_have_are_followed_alike():
    first, second = languages(3)
    shared = sorted(set(first.words.tolist()) & set(second.words.tolist()))
    alike = [word for word in shared if first.follower[word] == second.follower[word]]
    assert len(first.words) == len(second.words) == 20
    assert len(shared) == 16
    assert 8 <= len(alike) < 12
    assert all(set(one.follower[one.words].tolist()) == set(one.words.tolist()) for one in (first, second))


def test_importances_find_more_planted_neurons_than_chance_does():
    record = find_planted(importances=("rms", "random"), seeds=1, blocks=32, progress=False, **MINIATURE)
    rows = {row.mask: row for row in record.rows}
    assert list(rows) == ["none", "the planted neurons", "rms", "random"]
    assert (rows["none"].found, rows["the planted neurons"].found) == (0, 1)
    assert rows["rms"].found > rows["random"].found + 0.1
    assert rows["rms"].second < rows["none"].second
