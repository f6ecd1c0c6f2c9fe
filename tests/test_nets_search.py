"""Neuroevolutionary ticket search on problems whose answer is known."""

import logging

import pytest
import torch
from torch import nn

from hf_untangle.errors import ArchitectureError, ConfigError, MaskError, StatisticsError
from hf_untangle.nets import ticket_search as search_module
from hf_untangle.nets.evolution import crossover, mutate, next_generation, tournament_pairs
from hf_untangle.nets.functional import Program, minibatches
from hf_untangle.nets.genes import fresh_parameters, genes_of
from hf_untangle.nets.population import Population, first_population, packed, unpacked
from hf_untangle.nets.record import Ticket
from hf_untangle.nets.search_config import NetsConfig
from hf_untangle.nets.ticket_search import search

QUICK = {"population": 6, "generations": 3, "steps": 4, "batch_size": 16}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.fixture
def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """The class is the sign of the first of three inputs; the others are noise."""
    inputs = torch.randn(96, 3, generator=torch.Generator().manual_seed(1))
    return inputs, (inputs[:, 0] > 0).long()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_genes_are_all_parameters_and_only_weights_can_be_masked(network):
    genes = genes_of(network)
    assert len(genes.maskable) == 3 * 4 + 4 + 4 * 2 + 2
    assert genes.weights == 3 * 4 + 4 * 2
    parameters = dict(network.named_parameters())
    again = genes.unflatten(genes.flatten(parameters))
    assert all(torch.equal(again[name], parameter) for name, parameter in parameters.items())
    assert set(genes.masks(genes.maskable)) == {"0.weight", "2.weight"}


def test_convolutions_can_be_masked_and_norms_cannot():
    genes = genes_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2)))
    assert genes.weights == 2 * 9
    assert len(genes.maskable) == 2 * 9 + 2 + 2 + 2


def test_density_counts_maskable_genes_alone(network):
    genes = genes_of(network)
    kept = ~genes.maskable[None].clone()
    kept[0, 0] = True
    assert float(genes.density(kept)) == pytest.approx(1 / 20)


def test_a_network_without_weights_is_refused():
    with pytest.raises(ArchitectureError, match="linear and convolutional layers, but ReLU has none"):
        genes_of(nn.ReLU())


def test_running_statistics_are_refused_by_name():
    with pytest.raises(ArchitectureError, match="where `1` cannot keep running statistics"):
        genes_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))


def test_initializations_differ_and_a_seed_repeats_them(network):
    genes, before = genes_of(network), torch.get_rng_state()
    some, same = (fresh_parameters(network, genes, 2, seed=3) for _ in range(2))
    assert torch.equal(some, same) and not torch.equal(some[0], some[1])
    assert torch.equal(torch.get_rng_state(), before)
    weight = genes.unflatten(some[0])["0.weight"]
    assert 0 < weight.abs().max() <= 3**-0.5


def test_packed_masks_come_back_at_an_eighth_of_the_size():
    kept = torch.rand(5, 27, generator=generator()) < 0.5
    assert packed(kept).shape == (5, 4)
    assert torch.equal(unpacked(packed(kept), 27), kept)


def test_a_batched_population_learns_what_each_individual_learns_alone(network, examples):
    genes = genes_of(network)
    program, population = Program(network, genes), first_population(network, genes, 4, density=0.5, seed=0)
    together = program.learn(population.parameters, population.kept, [examples, examples], rate=0.5)
    for row, individual in enumerate(together):
        alone = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        masks = genes.unflatten(population.kept[row])
        start = genes.unflatten(population.parameters[row])
        alone.load_state_dict({name: start[name] * masks[name] for name in start})
        optimizer = torch.optim.SGD(alone.parameters(), lr=0.5)
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(alone(examples[0]), examples[1]).backward()
            for name, parameter in alone.named_parameters():
                parameter.grad *= masks[name]
            optimizer.step()
        torch.testing.assert_close(genes.flatten(dict(alone.named_parameters())), individual)


def test_chunks_change_nothing(network, examples):
    genes = genes_of(network)
    population = first_population(network, genes, 5, density=1.0, seed=0)
    whole, chunked = (Program(network, genes, chunk=chunk).losses(population.parameters, examples) for chunk in (None, 2))
    torch.testing.assert_close(whole, chunked)


def test_removed_genes_stay_zero_while_learning(network, examples):
    genes = genes_of(network)
    population = first_population(network, genes, 4, density=0.5, seed=0)
    batches = minibatches(examples, steps=5, size=16, generator=generator())
    learned = Program(network, genes).learn(population.parameters, population.kept, batches, rate=0.5)
    assert (learned[~population.kept] == 0).all()
    assert population.kept[:, ~genes.maskable].all()


def test_the_two_best_of_a_tournament_are_the_parents():
    fitness = torch.tensor([3.0, 1.0, 2.0])
    pairs = tournament_pairs(fitness, 50, 4, generator())
    assert (fitness[pairs[0]] <= fitness[pairs[1]]).all()
    assert (pairs[0] == 1).float().mean() > 0.7


def test_a_child_takes_parameter_and_mask_of_a_gene_from_one_parent_and_every_child_draws_anew():
    ones, kept = torch.ones(6, 200), torch.ones(6, 200, dtype=torch.bool)
    child = crossover(Population(ones, kept), Population(-ones, ~kept), 0.5, generator())
    assert torch.equal(child.parameters > 0, child.kept)
    assert 0.4 < child.kept.float().mean() < 0.6
    assert len(child.kept.unique(dim=0)) == 6


def test_mutation_removes_and_returns_weights_at_its_rates_and_spares_biases(network):
    genes = genes_of(network)
    kept = torch.ones(4000, len(genes.maskable), dtype=torch.bool)
    config = NetsConfig.resolve(shrink=0.1, grow=0.0, mutation=0.2, sigma=1.0)
    before = Population(torch.zeros(kept.shape), kept)
    after = mutate(before, genes, config, generator=generator())
    assert after.kept[:, ~genes.maskable].all()
    assert (~after.kept[:, genes.maskable]).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (after.parameters != 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert after.parameters[after.parameters != 0].std().item() == pytest.approx(1.0, abs=0.02)


def test_the_elite_lives_on_unchanged(network):
    genes, config = genes_of(network), NetsConfig.resolve(**QUICK, elite=2)
    population = first_population(network, genes, 6, density=0.5, seed=0)
    fitness = torch.tensor([5.0, 1.0, 4.0, 0.5, 3.0, 2.0])
    after = next_generation(population, fitness, genes, config, generator=generator())
    assert len(after) == 6
    assert torch.equal(after.parameters[:2], population.parameters[[3, 1]])
    assert torch.equal(after.kept[:2], population.kept[[3, 1]])


def test_the_search_finds_the_weights_that_matter(examples):
    """One linear layer, three inputs, two classes: only the weights of the first input can help."""
    ticket = search(
        nn.Linear(3, 2), examples, examples, population=24, generations=40, steps=10, sparsity_weight=0.5, progress=False
    )
    assert ticket.masks["weight"][:, 0].any()
    assert not ticket.masks["weight"][:, 1:].any()
    assert ticket.history[-1].fitness < ticket.history[0].fitness


def test_lamarckian_children_inherit_what_was_learned(network, examples):
    settings = QUICK | {"generations": 20, "progress": False, "mutation": 0.0, "shrink": 0.0}
    lamarck, baldwin = (search(network, examples, examples, **settings, inheritance=how) for how in ("lamarck", "baldwin"))
    assert lamarck.history[-1].loss < baldwin.history[-1].loss / 2
    genes = genes_of(network)
    started = Program(network, genes).losses(genes.flatten(lamarck.parameters)[None], examples)
    assert float(started) < 0.35


def test_the_network_is_left_as_it_was(network, examples):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    search(network, examples, examples, **QUICK, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_resumed_search_ends_like_an_unbroken_one(network, examples, tmp_path, monkeypatch):
    unbroken = search(network, examples, examples, **QUICK, density=0.7, progress=False)
    breed, calls = search_module.next_generation, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return breed(*args, **kwargs)

    where = {"checkpoint": tmp_path / "search.safetensors", "progress": False}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search_module, "next_generation", interrupted)
        search(network, examples, examples, **QUICK, density=0.7, **where)
    resumed = search(network, examples, examples, **QUICK, density=0.7, **where)
    assert all(torch.equal(resumed.masks[name], mask) for name, mask in unbroken.masks.items())
    assert all(torch.equal(resumed.parameters[name], one) for name, one in unbroken.parameters.items())
    assert resumed.history == unbroken.history


def test_a_checkpoint_of_another_search_is_refused(network, examples, tmp_path):
    where = {"checkpoint": tmp_path / "search.safetensors", "progress": False}
    search(network, examples, examples, **QUICK, **where)
    with pytest.raises(MaskError, match="must be of the same search, but its settings or its network differ"):
        search(network, examples, examples, **QUICK, seed=1, **where)


def test_a_ticket_is_saved_and_loaded_and_starts_a_network(network, examples, tmp_path):
    ticket = search(network, examples, examples, **QUICK, density=0.5, progress=False)
    ticket.save(tmp_path / "ticket.safetensors")
    again = Ticket.load(tmp_path / "ticket.safetensors")
    assert again.record() == ticket.record()
    again.apply_(network)
    for name, parameter in network.named_parameters():
        expected = ticket.parameters[name] * ticket.masks.get(name, torch.ones(()))
        assert torch.equal(parameter, expected)
    assert ticket.individual_steps == 6 * 4 * 4


def test_a_ticket_for_another_network_is_refused(network, examples):
    ticket = search(network, examples, examples, **QUICK, progress=False)
    with pytest.raises(MaskError, match="same parameters and shapes"):
        ticket.apply_(nn.Linear(3, 2))


def test_a_collapsed_population_warns_and_mutates_more(network, examples, caplog, monkeypatch):
    boosts = []
    breed = search_module.next_generation

    def watched(*args, boost, **kwargs):
        boosts.append(boost)
        return breed(*args, boost=boost, **kwargs)

    monkeypatch.setattr(search_module, "next_generation", watched)
    monkeypatch.setattr(Population, "distinct", lambda self: 1)
    with caplog.at_level(logging.WARNING, logger="hf_untangle"):
        search(network, examples, examples, **QUICK, progress=False)
    assert "The population has collapsed to one genome in generation 0" in caplog.text
    assert set(boosts) == {search_module.BOOST}


def test_copies_of_one_genome_count_once():
    population = Population(torch.ones(3, 4), torch.ones(3, 4, dtype=torch.bool))
    assert population.distinct() == 1
    hidden = torch.tensor([[True, True, False, True]] * 3)
    assert Population(torch.arange(12.0).view(3, 4).fmod(4), hidden).distinct() == 1


def test_a_loss_that_is_never_finite_is_an_error(network, examples):
    broken = (examples[0] * torch.nan, examples[1])
    with pytest.raises(StatisticsError, match="no one of 6 did in generation 0"):
        search(network, broken, broken, **QUICK, progress=False)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"density": 0.0}, "`density`: input should be greater than 0"),
        ({"density": 1.5}, "`density`: input should be less than or equal to 1"),
        ({"elite": 6, "population": 6}, "elite must be smaller than the population"),
        ({"inheritence": "baldwin"}, "no setting `inheritence` .did you mean `inheritance`"),
    ],
)
def test_settings_out_of_range_are_refused(network, examples, wrong, message):
    with pytest.raises(ConfigError, match=message):
        search(network, examples, examples, **wrong)


def with_frozen() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    return network


class RandomInside(nn.Linear):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (with_frozen(), r"`0.weight` is frozen. Call requires_grad_\(True\)"),
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2)), r"`1` \(Dropout\) is random.* Call network.eval\(\)"),
        (RandomInside(3, 2), r"one batched program \(torch.func.vmap\), where RandomInside raises RuntimeError"),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2).double()), "must have one dtype, got float32, float64"),
        (nn.Linear(5, 2), "raises RuntimeError on inputs of shape .* Check the shapes"),
    ],
)
def test_a_network_that_no_population_can_run_is_refused_before_the_search(network, message, examples, untouched):
    with untouched(network), pytest.raises(ArchitectureError, match=message):
        search(network, examples, examples, **QUICK, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[:-1]), "The train examples must be as many labels as inputs.* labels of shape \\(95,\\)"),
        (lambda x, y: (x, torch.cat([y, y])), "as many labels as inputs"),
        (lambda x, y: (x[:0], y[:0]), "and at least one"),
        (lambda x, y: (x, y + 1), "Labels must be classes from 0 to 1, .* got 1 to 2"),
        (lambda x, y: (x.bfloat16(), y), "must have the dtype of the network, torch.float32, got torch.bfloat16"),
    ],
)
def test_examples_that_do_not_belong_together_are_refused_before_the_search(network, examples, change, message):
    with pytest.raises(ConfigError, match=message):
        search(network, change(*examples), examples, **QUICK, progress=False)
    with pytest.raises(ConfigError, match=message.replace("train", "judged")):
        search(network, examples, change(*examples), **QUICK, progress=False)


def test_labels_that_are_ignored_are_no_classes(network, examples):
    inputs, labels = examples
    search(network, (inputs, labels.clone().fill_(-100).index_fill_(0, torch.arange(48), 1)), examples, **QUICK, progress=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_search_stays_in_the_dtype_of_its_network(network, examples, dtype):
    inputs, labels = examples
    some = inputs.to(dtype), labels
    ticket = search(network.to(dtype), some, some, **QUICK, progress=False)
    assert {parameter.dtype for parameter in ticket.parameters.values()} == {dtype}


def test_dropout_in_evaluation_mode_is_left_out(examples):
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2)).eval()
    assert search(network, examples, examples, **QUICK, progress=False).history
