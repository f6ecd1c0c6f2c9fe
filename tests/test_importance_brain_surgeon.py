"""Optimal Brain Surgeon: the neuron goes whose loss the others can make up for best."""

import pytest
import torch

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.importance import IMPORTANCE, Observations, brain_surgeon
from hf_untangle.importance.brain_surgeon import RIDGE
from hf_untangle.statistics import Gram

SIZE, OUTPUTS, TOKENS = 7, 4, 60


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gram_of(*activations: torch.Tensor) -> Gram:
    """Second moments of one expert after the other."""
    second = torch.stack([one.T @ one for one in activations]).float()
    return Gram(
        second, torch.stack([one.sum(0) for one in activations]), torch.tensor([float(len(one)) for one in activations])
    )


def refit_error(z: torch.Tensor, reads: torch.Tensor, gone: list[int]) -> float:
    """Mean squared error of the best refit without some neurons, its penalty included, by `torch.linalg.lstsq`."""
    kept = [n for n in range(z.shape[1]) if n not in gone]
    ridge = RIDGE * z.square().sum(0).mean()
    rows = torch.cat([z[:, kept], ridge.sqrt() * torch.eye(len(kept), dtype=z.dtype)])
    targets = torch.cat([z[:, gone], torch.zeros(len(kept), len(gone), dtype=z.dtype)])
    missed = (targets - rows @ torch.linalg.lstsq(rows, targets).solution) @ reads[:, gone].T
    return float(missed.square().sum() / len(z))


def test_neurons_go_in_the_order_of_the_smallest_rise_of_the_refitted_error():
    z, reads = random(TOKENS, SIZE, seed=0) @ random(SIZE, SIZE, seed=1), random(OUTPUTS, SIZE, seed=2)
    worth = brain_surgeon(Observations(gram=gram_of(z), reads=reads[None].float()))
    gone, rises = [], []
    for _ in range(SIZE - 1):
        rest = [n for n in range(SIZE) if n not in gone]
        errors = {n: refit_error(z, reads, [*gone, n]) for n in rest}
        best = min(errors, key=errors.__getitem__)
        rises.append(errors[best] - (refit_error(z, reads, gone) if gone else 0.0))
        gone.append(best)
    assert worth.argsort().tolist()[: SIZE - 1] == gone
    expected = torch.tensor(rises, dtype=torch.float64).cummax(0).values
    torch.testing.assert_close(worth[gone], expected, rtol=1e-4, atol=1e-6)


def test_of_two_equal_neurons_one_is_worth_little_and_the_other_everything():
    z, reads = random(TOKENS, SIZE, seed=0), random(OUTPUTS, SIZE, seed=2)
    z[:, 3] = z[:, 5]
    reads[:, 3] = reads[:, 5] = 2.0
    worth = brain_surgeon(Observations(gram=gram_of(z), reads=reads[None]))
    pair = worth[[3, 5]]
    assert pair.min() < 0.3 * pair.max()
    assert pair.max() == worth.max()


def test_experts_are_worth_what_their_tokens_are():
    z, reads = random(TOKENS, SIZE, seed=0), random(OUTPUTS, SIZE, seed=2)
    few = z[:20]
    both = brain_surgeon(Observations(gram=gram_of(few, few.repeat(2, 1), few[:0]), reads=reads.expand(3, -1, -1)))
    first, second, unseen = both.split(SIZE)
    torch.testing.assert_close(second, 2 * first)
    assert not unseen.any()


def test_what_it_needs_is_said():
    with pytest.raises(StatisticsError, match="needs second moments, but the neurons were observed without them"):
        IMPORTANCE["obs"](Observations())


@pytest.mark.parametrize("importance", ["obs", "rms+obs"])
def test_it_compares_no_two_corpora(importance):
    with pytest.raises(ConfigError, match="must compare two corpora, got"):
        UnlearnConfig().with_settings(importance=importance)
