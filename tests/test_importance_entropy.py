"""Entropy of the bit z > 0: by hand, by formula, and corrected for few tokens."""

import math

import pytest
import torch

from hf_untangle.errors import StatisticsError
from hf_untangle.importance.entropy import always_off, always_on, bit_entropy, entropy
from hf_untangle.statistics.moments import MomentAccumulator, Moments

MANY = 10**9


def moments_of(z: torch.Tensor) -> Moments:
    accumulator = MomentAccumulator(z.shape[1], z.device)
    accumulator.update(z)
    return accumulator.result()


def counts(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_fair_bit_has_one_bit_and_a_constant_one_has_none():
    assert bit_entropy(counts(MANY / 2, 0, MANY), MANY).tolist() == pytest.approx([1, 0, 0])


def test_a_bit_that_is_on_at_a_quarter_of_many_tokens_by_hand():
    expected = 0.25 * math.log2(4) + 0.75 * math.log2(4 / 3)
    assert bit_entropy(counts(MANY / 4), MANY).item() == pytest.approx(expected)


def test_the_correction_for_few_tokens_by_hand():
    plain = 0.25 * math.log2(4) + 0.75 * math.log2(4 / 3)
    assert bit_entropy(counts(2), 8).item() == pytest.approx(plain + 1 / (2 * 8 * math.log(2)))


def test_a_constant_bit_is_not_corrected_and_no_entropy_exceeds_one_bit():
    assert bit_entropy(counts(0, 4, 8), 8).tolist() == [0, 1, 0]


def test_the_corrected_estimate_is_nearer_to_the_truth_on_average():
    p, tokens = 0.3, 20
    truth = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
    generator = torch.Generator().manual_seed(0)
    on = (torch.rand(20_000, tokens, generator=generator) < p).double().sum(1)
    share = on / tokens
    plain = -(torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share)).mean() / math.log(2)
    corrected = bit_entropy(on, tokens).mean()
    assert abs(corrected - truth) < abs(plain - truth) / 2


def test_always_on_and_always_off_are_told_apart():
    z = torch.tensor([[1.0, -1.0, 0.0, 1.0], [2.0, -3.0, 0.0, -1.0]])
    moments = moments_of(z)
    assert always_on(moments).tolist() == [True, False, False, False]
    assert always_off(moments).tolist() == [False, True, True, False]
    assert entropy(moments).tolist() == [0, 0, 0, 1]


def test_entropy_is_its_formula_on_random_activations():
    z = torch.randn(400, 9, generator=torch.Generator().manual_seed(0)) + torch.linspace(-2, 2, 9)
    p = (z > 0).double().mean(0)
    plain = -(p * p.log2() + (1 - p) * (1 - p).log2())
    expected = (plain + 1 / (800 * math.log(2))).clamp_max(1)
    torch.testing.assert_close(entropy(moments_of(z)), expected)


def test_units_that_were_never_seen_are_refused():
    with pytest.raises(StatisticsError, match="needs tokens at which it was seen, but there were none"):
        bit_entropy(counts(0, 0), 0)
