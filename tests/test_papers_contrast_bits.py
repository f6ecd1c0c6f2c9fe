"""Bits, masks of bits and problems: by hand first."""

import math

import pytest
import torch

from hf_untangle.errors import ConfigError, CorpusError, StatisticsError
from hf_untangle.importance.entropy import always_off, always_on, bit_entropy
from hf_untangle.papers.contrast.bit_masks import ABLATIONS, bits_to_mask, keep_after
from hf_untangle.papers.contrast.channel import BitChannel, replace_bits
from hf_untangle.papers.contrast.measurement import EncodedItems, bit_moments
from hf_untangle.papers.contrast.problems import ProblemDataset, draw_problems

CONSTANT, EVEN, RARE, OFF = 0, 1, 2, 3
ENTROPY = torch.tensor([0.0, 1.0, 0.3, 0.0])


def planted(items: int = 64) -> EncodedItems:
    """One bit that is always on, one that is on for every other item, one on for an eighth, and one that is never on."""
    number = torch.arange(items)
    bits = torch.stack([number >= 0, number % 2 == 0, number % 8 == 0, number < 0], 1).float()
    return EncodedItems(bits, torch.zeros(items, 1))


def test_a_bit_that_never_changes_says_nothing_and_an_even_one_says_one_bit():
    moments = bit_moments(planted())
    entropy = bit_entropy(moments.positive, moments.count)
    assert entropy[CONSTANT] == entropy[OFF] == 0
    assert entropy[EVEN] == 1
    eighth = -(math.log2(1 / 8) / 8 + 7 / 8 * math.log2(7 / 8))
    assert float(entropy[RARE]) == pytest.approx(eighth + 1 / (2 * 64 * math.log(2)))


def test_bits_that_are_always_on_are_told_from_those_that_are_always_off():
    moments = bit_moments(planted())
    assert always_on(moments).tolist() == [True, False, False, False]
    assert always_off(moments).tolist() == [False, False, False, True]


@pytest.mark.parametrize("items", [1, 14])
def test_a_set_that_is_smaller_than_the_correction_allows_is_an_error(items):
    with pytest.raises(StatisticsError, match=f"needs at least 15 items, .* under 0.05 bits, but the set has {items}"):
        bit_moments(planted(items))
    assert bit_moments(planted(15)).count == 15


def test_the_planted_constant_bits_go_first_from_the_bottom_and_last_from_the_top():
    assert keep_after("bottom", ENTROPY, 2, seed=0).tolist() == [False, True, True, False]
    assert keep_after("top", ENTROPY, 2, seed=0).tolist() == [True, False, False, True]


def test_a_random_mask_masks_as_many_bits_and_depends_on_the_seed_alone():
    masks = [keep_after("random", torch.rand(40), 12, seed=seed) for seed in (0, 0, 1)]
    assert [int((~kept).sum()) for kept in masks] == [12, 12, 12]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_a_masked_bit_is_replaced_and_the_others_arrive():
    bits = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    read = replace_bits(bits, torch.tensor([True, False, False]), torch.tensor([0.5, 0.5, 0.25]))
    assert read.tolist() == [[1.0, 0.5, 0.25], [0.0, 0.5, 0.25]]


def test_fills_are_the_mean_a_half_and_zero():
    train = bit_moments(planted())
    assert ABLATIONS["mean"](train).tolist() == [1, 0.5, 0.125, 0]
    assert ABLATIONS["half"](train).tolist() == [0.5] * 4
    assert ABLATIONS["zero"](train).tolist() == [0.0] * 4


def test_a_constant_bit_that_is_filled_with_its_mean_arrives_as_it_was():
    bits, moments = planted().bits, bit_moments(planted())
    kept = keep_after("bottom", ENTROPY, 2, seed=0)
    assert torch.equal(replace_bits(bits, kept, ABLATIONS["mean"](moments).float()), bits)


@pytest.mark.parametrize(("share", "bits", "count"), [(0.3, 10, 3), (0.29, 100, 29), (1.0, 7, 7), (0.35, 10, 3)])
def test_a_share_is_rounded_down_to_bits(share, bits, count):
    assert bits_to_mask(share, bits) == count


@pytest.mark.parametrize("share", [0.0, 0.03, -0.5, 1.01])
def test_a_share_that_is_no_bit_or_none_at_all_is_an_error(share):
    with pytest.raises(ConfigError, match=f"{share:g} of 32 bits is .* The smallest share here is 0.0312"):
        bits_to_mask(share, 32)


def test_the_channel_is_noisy_and_soft_in_training_and_hard_otherwise():
    sent = torch.tensor([[-3.0, -0.1, 0.0, 0.1, 3.0]])
    channel = BitChannel(noise=0.5, temperature=1.0)
    assert channel.eval()(sent).tolist() == [[0, 0, 0, 1, 1]]
    first, second = channel.train()(sent), channel(sent)
    assert not torch.equal(first, second)
    assert ((first > 0) & (first < 1)).all()


def test_without_noise_the_channel_is_a_sigmoid_in_training():
    sent = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(BitChannel(noise=0.0, temperature=2.0)(sent), torch.sigmoid(2 * sent))


def test_every_place_of_a_problem_goes_through_all_items_before_one_comes_again():
    problems = draw_problems(items=12, choices=3, count=24, seed=0)
    for place in problems.choices.T:
        assert sorted(place[:12].tolist()) == sorted(place[12:].tolist()) == list(range(12))
    assert set(problems.labels.tolist()) == {0, 1, 2}


def test_the_answer_is_the_item_at_the_labeled_place():
    problems = draw_problems(items=12, choices=3, count=5, seed=1)
    items = torch.arange(12, dtype=torch.uint8)[:, None]
    data = ProblemDataset(items, problems)
    assert len(data) == 5
    for number in range(5):
        one = data[number]
        assert one["answer"] == one["problem"][one["labels"]] == problems.answers[number]


def test_problems_of_more_choices_than_items_are_an_error():
    with pytest.raises(CorpusError, match="A problem of 5 choices needs as many items, but the set has 4"):
        draw_problems(items=4, choices=5, count=1, seed=0)
