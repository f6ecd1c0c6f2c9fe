"""How numbers are written."""

import math

import pytest

from hf_untangle.reporting import formatting


@pytest.mark.parametrize(
    ("share", "text"), [(0.0312, "3.1%"), (1.0, "100.0%"), (0.0, "0.0%"), (-0.0001, "0.0%"), (math.nan, "n/a")]
)
def test_a_share_is_written_as_a_percentage(share, text):
    assert formatting.percent(share) == text


@pytest.mark.parametrize(
    ("share", "cell", "phrase"),
    [
        (0.71, "71.0%", "fell by 71.0%"),
        (-0.012, "rose 1.2%", "rose by 1.2%"),
        (-0.0001, "0.0%", "fell by 0.0%"),
        (math.nan, "n/a", "has no relative drop"),
    ],
)
def test_a_negative_drop_is_a_rise(share, cell, phrase):
    assert formatting.drop(share) == cell
    assert formatting.fell(share) == phrase


@pytest.mark.parametrize(
    ("first", "second", "phrases"),
    [
        (0.71, 0.031, ("fell by 71.0%", "by 3.1%")),
        (0.71, -0.012, ("fell by 71.0%", "rose by 1.2%")),
        (-0.02, -0.012, ("rose by 2.0%", "by 1.2%")),
        (math.nan, math.nan, ("has no relative drop", "has no relative drop")),
        (math.nan, 0.1, ("has no relative drop", "fell by 10.0%")),
    ],
)
def test_two_drops_share_their_verb_only_when_it_is_the_same(first, second, phrases):
    assert formatting.fell_both(first, second) == phrases


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1.0"), (48.04, "48.0"), (1234.5, "1,234"), (2.1e8, "2.1e+08"), (math.inf, "inf")]
)
def test_a_perplexity_has_only_digits_that_mean_something(value, text):
    assert formatting.perplexity(value) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (12_288, "12,288"), (134_515_008, "134.5 million"), (7_000_000_000, "7.0 billion")]
)
def test_a_large_count_is_written_in_words(number, text):
    assert formatting.amount(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (252.4, "4 min 12 s"), (7500.0, "2 h 5 min")])
def test_a_time_is_written_in_the_units_that_matter(seconds, text):
    assert formatting.duration(seconds) == text


def test_points_are_not_percent():
    assert formatting.points(0.6349) == "63.5 points"
    assert formatting.points(math.nan) == "n/a"


def test_a_single_value_has_no_spread():
    assert formatting.mean([0.5], formatting.percent) == "50.0%"


def test_the_spread_of_several_values_is_their_sample_standard_deviation():
    # Mean 0.4, squared distances 0.01 + 0 + 0.01 over two degrees of freedom.
    assert formatting.mean([0.3, 0.4, 0.5], formatting.percent) == "40.0% ±\u00a010.0%"


def test_an_infinite_value_has_no_spread():
    assert formatting.mean([10.0, math.inf], formatting.perplexity) == "inf"
