"""Metrics in TOFU's terms: worked examples by hand, then the reference formula or another library on random numbers."""

import math

import numpy as np
import pytest

from hf_untangle.metrics import (
    extraction_strength,
    forget_quality,
    model_utility,
    normalized_probability,
    privacy_leakage,
    truth_ratio,
)


def test_two_models_with_the_same_truth_ratios_cannot_be_told_apart():
    assert forget_quality([0.3, 0.1, 0.2], [0.1, 0.2, 0.3]) == {"forget_quality": 1.0, "ks_distance": 0.0}


def test_the_p_value_by_hand():
    # Of the 6 orders of two and two numbers, two put both of one sample first.
    assert forget_quality([1, 2], [3, 4]) == {"forget_quality": pytest.approx(2 / 6), "ks_distance": 1.0}
    # Of the 3 orders of one and two numbers, two put the single one at an end.
    assert forget_quality([1], [3, 4])["forget_quality"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("first", "second", "shift"), [(5, 5, 0.5), (40, 60, 0.0), (60, 60, 0.4), (400, 400, 3.0), (37, 211, 1)]
)
def test_the_p_value_is_that_of_scipy(first, second, shift):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(first)
    ours, gold = rng.lognormal(size=first).round(2), rng.lognormal(size=second).round(2) + shift
    expected = stats.ks_2samp(ours, gold)
    found = forget_quality(ours.tolist(), gold.tolist())
    assert found["ks_distance"] == pytest.approx(expected.statistic, abs=1e-12)
    assert found["forget_quality"] == pytest.approx(expected.pvalue, rel=1e-8)


def test_a_tiny_p_value_keeps_its_digits():
    every, none = np.arange(400.0), np.arange(400.0) + 1000
    # One order of both samples in each direction, of all of them.
    assert forget_quality(every.tolist(), none.tolist())["forget_quality"] == pytest.approx(2 / math.comb(800, 400), rel=1e-9)


def test_large_samples_go_by_the_limiting_distribution():
    rng = np.random.default_rng(0)
    ours, gold = rng.normal(size=10_500), rng.normal(size=10_500) + 0.02
    stats = pytest.importorskip("scipy.stats")
    expected = stats.ks_2samp(ours, gold, method="asymp").pvalue
    assert forget_quality(ours.tolist(), gold.tolist())["forget_quality"] == pytest.approx(expected, rel=0.01)
    assert forget_quality(ours.tolist(), ours.tolist())["forget_quality"] == 1.0


@pytest.mark.parametrize("ours", [[], [0.5, math.nan]])
def test_samples_without_numbers_are_refused(ours):
    with pytest.raises(ValueError, match="needs truth ratios of both models"):
        forget_quality(ours, [0.5])


def test_utility_is_the_harmonic_mean_and_nothing_where_one_thing_is_lost():
    assert model_utility([0.5, 1.0])["model_utility"] == pytest.approx(2 / 3)
    assert model_utility({"prob": 0.9, "rouge": 0.0}) == {"model_utility": 0.0}
    for values in ([], [0.5, math.nan], {"prob": -0.1}):
        with pytest.raises(ValueError, match="at least one number from 0 to 1"):
            model_utility(values)


def test_the_normalized_probability_by_hand_and_at_chance():
    right, wrong = [[math.log(0.4)] * 2], [[[math.log(0.1)], [math.log(0.3)] * 3]]
    assert normalized_probability(right, wrong)["normalized_probability"] == pytest.approx(0.4 / 0.8)
    assert normalized_probability([[-900.0]], [[[-900.0]] * 5])["normalized_probability"] == pytest.approx(1 / 6)
    assert normalized_probability([[-2000.0]], [[[-1.0]]])["normalized_probability"] == pytest.approx(0, abs=1e-300)
    with pytest.raises(ValueError, match="needs a right answer and a wrong one"):
        normalized_probability([[-1.0]], [[]])


def test_privacy_leakage_is_zero_for_gold_and_negative_while_the_text_is_known():
    assert privacy_leakage(0.5, 0.5) == {"privacy_leakage": 0.0}
    assert privacy_leakage(1.0, 0.5)["privacy_leakage"] == pytest.approx(-100)
    assert privacy_leakage(0.2, 0.5)["privacy_leakage"] == pytest.approx(60)
    with pytest.raises(ValueError, match="its AUC is 1.0"):
        privacy_leakage(0.5, 1.0)


def test_extraction_may_count_one_token_where_none_is_right():
    rows = {"predictions": [[1, 2, 3, 9], [1, 9, 3, 4]], "references": [[1, 2, 3, 4], [1, 2, 3, 4]]}
    assert extraction_strength(**rows)["extraction_strength"] == pytest.approx((0 + 0.5) / 2)
    assert extraction_strength(**rows, at_least_one=True)["extraction_strength"] == pytest.approx((0.25 + 0.5) / 2)


def test_a_model_that_lost_some_answers_differs_from_gold_by_their_truth_ratios():
    rng = np.random.default_rng(1)
    wrong = -rng.random((60, 5, 4))
    unknown, known = -rng.random((60, 4)), -rng.random((60, 4)) / 10
    ratios = {
        name: truth_ratio(right.tolist(), wrong.tolist())["ratios"] for name, right in {"gold": unknown, "knows": known}.items()
    }
    assert forget_quality(ratios["gold"], ratios["gold"])["forget_quality"] == 1.0
    assert forget_quality(ratios["knows"], ratios["gold"])["forget_quality"] < 0.001
