"""Baselines of ticket search: worked examples, and the comparison at equal density."""

import pytest
import torch
from torch import nn

from hf_untangle.errors import ConfigError
from hf_untangle.nets.functional import Program
from hf_untangle.nets.genes import genes_of
from hf_untangle.nets.search_config import NetsConfig
from hf_untangle.nets.ticket_search import search
from hf_untangle.papers.tickets.baselines import iterative_magnitude, keep_top, random_mask, snip, synflow
from hf_untangle.papers.tickets.comparison import compare


@pytest.fixture
def layer() -> nn.Linear:
    return nn.Linear(4, 1, bias=False)


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float32)


def test_the_highest_scores_inside_each_weight_stay():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False))
    kept = keep_top(row(5, 6, 7, 8, 0, 0, 1, 2), genes_of(network), {"0.weight": 0.5, "1.weight": 0.5})
    assert kept.tolist() == [[False, False, True, True, True, True, False, True]]


def test_a_random_mask_has_the_density_that_was_asked_for(layer):
    assert random_mask(genes_of(layer), {"weight": 0.5}, torch.Generator().manual_seed(0)).sum() == 2


def test_snip_keeps_the_largest_products_of_weight_and_gradient(layer):
    """The gradient of the sum of outputs by a weight is its input, so the products are weight x input: 2, 6, 1, 0."""
    program = Program(layer, genes_of(layer), lambda outputs, _: outputs.sum())
    kept = snip(program, row(2, -3, 1, 9), {"weight": 0.5}, (row(1, 2, 1, 0), torch.zeros(1)))
    assert kept.tolist() == [[True, True, False, False]]


def test_synflow_keeps_the_paths_that_carry_most():
    """Two hidden units: all that enters the second dies behind it, so its inputs carry nothing, however large."""
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    program = Program(network, genes_of(network))
    start = row(1, -2, 50, 60, 3, 0)
    kept = synflow(program, start, {"0.weight": 0.5, "2.weight": 0.5}, torch.randn(1, 2))
    assert kept.tolist() == [[True, True, False, False, True, False]]


def test_magnitude_pruning_rewinds_and_keeps_what_training_makes_large(layer):
    """Only the first input tells anything of the target, so training grows its weight from the smallest start."""
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    program = Program(layer, genes_of(layer), lambda outputs, labels: ((outputs[:, 0] - labels) ** 2).mean())
    kept = iterative_magnitude(
        program,
        row(0.0, 0.5, 0.5, 0.5),
        {"weight": 0.25},
        (inputs, 3 * inputs[:, 0]),
        config=NetsConfig.resolve(learning_rate=0.1, batch_size=32),
        rounds=2,
        steps=100,
        generator=torch.Generator().manual_seed(0),
    )
    assert kept.tolist() == [[True, False, False, False]]


@pytest.fixture
def task() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    inputs = torch.randn(128, 4)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), (inputs, (inputs[:, 0] > 0).long())


def test_all_contestants_but_the_dense_one_have_the_tickets_density(task):
    network, examples = task
    ticket = search(network, examples, examples, population=6, generations=5, steps=5, density=0.5, progress=False)
    contestants = compare(network, ticket, examples, examples, steps=(5, 20), magnitude_rounds=(2, 10))
    by_name = {one.name: one for one in contestants}
    assert by_name.pop("dense").density == 1
    assert {round(one.density, 6) for one in by_name.values()} == {round(ticket.density, 6)}
    assert by_name["ticket"].search_steps == 6 * 6 * 5
    assert by_name["iterative magnitude"].search_steps == 20
    assert all(set(one.accuracies) == {5, 20} for one in contestants)
    assert all(0 <= accuracy <= 1 for one in contestants for accuracy in one.accuracies.values())
    assert next(one for one in contestants if one.name == "dense").accuracies[20] > 0.8


def test_a_ticket_that_keeps_everything_cannot_be_compared(task):
    network, examples = task
    ticket = search(network, examples, examples, population=4, generations=1, steps=1, shrink=0.0, progress=False)
    with pytest.raises(ConfigError, match="keeps some weights and not others, but this one keeps 100%"):
        compare(network, ticket, examples, examples)
