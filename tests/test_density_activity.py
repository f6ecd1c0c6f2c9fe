"""What neurons do, in numbers that can be worked out by hand, and looking at them without a trace."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from hf_untangle.density.activity import activity, effective_rank
from hf_untangle.density.measure import Measure
from hf_untangle.density.snapshot import snapshot
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.errors import StatisticsError
from hf_untangle.randomness import random_state_kept


@pytest.fixture
def halves() -> nn.Module:
    """Four neurons of which one copies the input, one its negative, and two do nothing."""
    network = nn.Sequential(nn.Linear(1, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False))
    network[0].weight.data = torch.tensor([[1.0], [-1.0], [0.0], [0.0]])
    network[2].weight.data = torch.ones(1, 4)
    return network


def test_dead_neurons_and_sparsity_by_hand(halves):
    found = activity(halves, lambda network: network(torch.tensor([[1.0], [2.0], [-3.0], [4.0]])))
    assert found.dead == 0.5
    # The first neuron is above zero on three of four inputs, the second on one, the others never.
    assert found.sparsity == pytest.approx(1 - (3 / 4 + 1 / 4) / 4)


def test_effective_rank_counts_the_dimensions_that_are_used():
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.ones(6, 3)) == pytest.approx(1)
    assert effective_rank(torch.zeros(4, 4)) == 0
    # Singular values 3 and 1: p = 3/4 and 1/4.
    assert effective_rank(torch.tensor([[3.0, 0.0], [0.0, 1.0]])) == pytest.approx(4 / 3**0.75)


def test_convolutions_are_watched_channel_by_channel():
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    network[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    found = activity(network, lambda module: module(torch.ones(3, 1, 4, 4)))
    assert (found.dead, found.sparsity, found.effective_rank) == (0.5, 0.5, pytest.approx(1))


def test_of_a_decoder_the_neurons_are_watched(toy_model, blocks, untouched):
    with untouched(toy_model):
        found = activity(toy_model, lambda model: model(blocks.input_ids))
    assert 0 <= found.dead < 0.5
    assert 0 < found.sparsity < 1
    assert 1 < found.effective_rank < 72


def test_a_network_that_does_not_run_is_refused(halves):
    with pytest.raises(StatisticsError, match="Neurons must run to be watched, but no neuron of this Sequential did"):
        activity(halves, lambda network: None)


def test_a_snapshot_leaves_weights_modes_gradients_and_random_states_alone(halves, untouched):
    halves.train()
    halves(torch.ones(2, 1)).sum().backward()
    gradient = halves[0].weight.grad.clone()
    states = np.random.get_state()[1].copy(), torch.get_rng_state()

    def evaluate(network):
        noise = np.random.rand() + torch.rand(()).item()
        return network(torch.ones(4, 1)).sum().item() + 0 * noise

    with untouched(halves):
        found = snapshot(halves, Measure(evaluate, evaluate, None), SweepConfig(grid=(0.5, 1.0), refine=0.0))
    assert torch.equal(halves[0].weight.grad, gradient)
    assert np.array_equal(np.random.get_state()[1], states[0])
    assert torch.equal(torch.get_rng_state(), states[1])
    assert found["metric"] == 4.0
    assert found["dead_neurons"] == 0.75


def test_random_states_come_back_after_an_error_too():
    with pytest.raises(RuntimeError, match="stop"), random_state_kept():
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
        random.random(), np.random.rand(), torch.rand(3)
        raise RuntimeError("stop")
    assert random.getstate() == states[1]
    assert torch.equal(torch.get_rng_state(), states[0]) and np.array_equal(np.random.get_state()[1], states[2])
