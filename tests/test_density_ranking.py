"""The k lowest of many scores are found exactly, without sorting them."""

import pytest
import torch

from hf_untangle.density.ranking import NOTHING, Ranking
from hf_untangle.errors import StatisticsError


def lowest(tensors, count):
    return list(Ranking(lambda: tensors).lowest(count))


@pytest.mark.parametrize("count", [0, 1, 7, 500, 1199, 1200])
def test_exactly_the_lowest_go_as_a_sort_would_choose_them(count):
    torch.manual_seed(0)
    tensors = [torch.randn(20, 30).abs(), torch.randn(600).abs() * 1e-4]
    scores = torch.cat([one.flatten() for one in tensors])
    expected = torch.zeros(1200, dtype=torch.bool)
    expected[scores.sort(stable=True).indices[:count]] = True
    assert torch.equal(torch.cat([mask.flatten() for mask in lowest(tensors, count)]), expected)


def test_masks_have_the_shapes_of_their_tensors():
    assert [mask.shape for mask in lowest([torch.ones(2, 3, 4), torch.ones(5)], 3)] == [(2, 3, 4), (5,)]


def test_of_equal_scores_the_first_ones_go_and_no_more_than_asked_for():
    first, second = lowest([torch.tensor([1.0, 0.0, 1.0]), torch.tensor([1.0, 2.0])], 3)
    assert first.tolist() == [True, True, True]
    assert second.tolist() == [False, False]
    first, second = lowest([torch.tensor([1.0, 0.0, 1.0]), torch.tensor([1.0, 2.0])], 4)
    assert second.tolist() == [True, False]


def test_few_distinct_scores_as_in_bfloat16_are_cut_exactly():
    torch.manual_seed(0)
    scores = torch.randn(5000).bfloat16().abs().float()
    for count in (1, 1234, 4999):
        (mask,) = lowest([scores], count)
        assert mask.sum() == count
        assert scores[mask].max() <= scores[~mask].min()


def test_nothing_goes_when_nothing_is_asked_for():
    assert Ranking(lambda: [torch.zeros(4)]).cut(0) == NOTHING


def test_scores_of_any_layout_are_ranked_in_their_logical_order():
    scores = torch.arange(6.0).view(2, 3).T
    (mask,) = lowest([scores], 2)
    assert torch.equal(mask, scores < 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(StatisticsError, match="Scores must be finite to be ranked"):
        Ranking(lambda: [torch.tensor([1.0, bad])])
