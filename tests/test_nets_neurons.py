"""Ticket search over the neurons of language models."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like
from hf_untangle.nets.batched_models import Crowd, neuron_genes
from hf_untangle.nets.neuron_evolution import NeuronEvolution
from hf_untangle.nets.neuron_search import search_neurons
from hf_untangle.nets.search_config import NeuronNetsConfig
from hf_untangle.survey.tiny_models import tiny_model

QUICK = {"population": 4, "generations": 2, "batch_size": 4, "progress": False}


def crowd_of(model, rank: int = 0) -> Crowd:
    groups = neuron_groups(model)
    return Crowd(model, groups, neuron_genes(model, groups, rank))


def masks_of(crowd: Crowd, count: int) -> torch.Tensor:
    drawn = torch.rand(count, len(crowd.genes.maskable), generator=torch.Generator().manual_seed(0)) < 0.8
    return drawn | ~crowd.genes.maskable


def mask_of(crowd: Crowd, kept: torch.Tensor) -> NeuronMask:
    names = [group.name for group in crowd.groups]
    parts = crowd.genes.unflatten(kept)
    return NeuronMask.keep_all(crowd.groups, "tiny").with_kept({name: parts[name] for name in names})


@torch.no_grad()
def loss_of(model, batch) -> float:
    logits = model(**batch.inputs(torch.device("cpu"))).logits[:, :-1].flatten(0, 1)
    labels = batch.input_ids[:, 1:].masked_fill(~batch.attention_mask[:, 1:], -100).flatten()
    return float(F.cross_entropy(logits, labels))


@pytest.mark.parametrize("which", ["blocks", "padded_blocks"])
def test_a_crowd_answers_as_each_masked_model_alone(model, which, request):
    batch, crowd = request.getfixturevalue(which), crowd_of(model)
    kept = masks_of(crowd, 3)
    with torch.no_grad():
        together = crowd.losses(torch.zeros(kept.shape), kept, batch)
    for row, loss in zip(kept, together.tolist(), strict=True):
        with masked(model, mask_of(crowd, row)):
            assert loss == pytest.approx(loss_of(model, batch), abs=2e-5)


def test_an_adapter_in_a_crowd_is_the_one_that_is_merged(toy_model, pairs):
    blocks = pairs[0].retain.first(2)
    ticket = search_neurons(toy_model, pairs[0].retain, **QUICK, rank=2, steps=3, inheritance="lamarck", learning_rate=0.01)
    assert any(gain.abs().max() > 1e-4 for gain in ticket.adapters.values())
    before = loss_of(toy_model, blocks)
    ticket.apply_(toy_model)
    assert loss_of(toy_model, blocks) != before
    for name, kept in ticket.mask.items():
        assert (toy_model.get_submodule(name).weight[:, ~kept] == 0).all()


def test_adapters_in_a_crowd_act_as_weights_do(toy_model, blocks):
    crowd = crowd_of(toy_model, rank=2)
    kept = torch.ones(1, len(crowd.genes.maskable), dtype=torch.bool)
    parameters = 0.05 * torch.randn(kept.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        adapted = float(crowd.losses(parameters, kept, blocks))
        factors = crowd.genes.unflatten(parameters[0])
        for group in crowd.groups:
            toy_model.get_submodule(group.name).weight += (factors[f"{group.name}/down"] @ factors[f"{group.name}/up"]).T
    assert adapted == pytest.approx(loss_of(toy_model, blocks), abs=1e-5)


def test_a_search_leaves_the_model_as_it_was(toy_model, pairs, untouched):
    with untouched(toy_model):
        search_neurons(toy_model, pairs[0].retain, **QUICK, rank=1, steps=1)


def test_a_search_gives_the_same_mask_every_time(toy_model, pairs):
    first, second = (search_neurons(toy_model, pairs[0].retain, **QUICK, seed=3) for _ in range(2))
    assert first.mask == second.mask and first.history == second.history
    assert first.forwards == 4 * 4 * 2 and first.backwards == 0


def test_evolved_masks_cost_less_than_random_ones_of_the_same_density(toy_model, pairs):
    settings = QUICK | {"population": 12, "generations": 60, "batch_size": 8, "density": 0.5, "grow": 0.01, "shrink": 0.01}
    ticket = search_neurons(toy_model, pairs[0].retain, **settings, sparsity_weight=2.0)
    held_out = pairs[1].retain
    with masked(toy_model, ticket.mask):
        evolved = next_token_metrics(toy_model, held_out, progress=False).loss
    controls = []
    for seed in range(3):
        with masked(toy_model, random_like(ticket.mask, seed)):
            controls.append(next_token_metrics(toy_model, held_out, progress=False).loss)
    assert ticket.mask.removed() > 0.5 * ticket.mask.neurons()
    assert evolved < min(controls) - 0.2


def test_a_search_that_earns_by_forgetting_unlearns(toy_model, pairs):
    settings = QUICK | {"population": 12, "generations": 20, "batch_size": 8, "sparsity_weight": 0.0}
    before = (
        next_token_metrics(toy_model, pairs[1].forget, progress=False),
        next_token_metrics(toy_model, pairs[1].retain, progress=False),
    )
    ticket = search_neurons(toy_model, pairs[0].retain, forget=pairs[0].forget, forget_weight=0.5, **settings)
    with masked(toy_model, ticket.mask):
        after = (
            next_token_metrics(toy_model, pairs[1].forget, progress=False),
            next_token_metrics(toy_model, pairs[1].retain, progress=False),
        )
    assert after[0].loss - before[0].loss > 2 * (after[1].loss - before[1].loss)
    assert after[0].top1 < before[0].top1 - 0.05


def test_a_search_can_start_from_a_mask(toy_model, pairs):
    groups = neuron_groups(toy_model)
    start = NeuronMask.keep_all(groups, "toy")
    start = start.with_kept({name: torch.arange(len(kept)) % 4 > 0 for name, kept in start.items()})
    config = NeuronNetsConfig.resolve(population=3, shrink=0.0, grow=0.0)
    evolution = NeuronEvolution(toy_model, pairs[0].retain, config=config, start=start)
    assert evolution.mask == start
    evolution.advance()
    assert evolution.mask == start


def test_learning_in_the_loop_lowers_the_loss(toy_model, pairs):
    settings = QUICK | {"density": 0.7, "generations": 1, "shrink": 0.0, "grow": 0.0}
    still = search_neurons(toy_model, pairs[0].retain, **settings)
    learned = search_neurons(toy_model, pairs[0].retain, **settings, rank=4, steps=8, learning_rate=0.01)
    assert learned.history[0].loss < still.history[0].loss - 0.05
    assert learned.backwards == 4 * 4 * 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 3}, "[Ll]earning needs an adapter, got steps=3 with rank=0"),
        ({"forget_weight": 1.0}, "needs forget blocks and a forget_weight above 0, got only one of them"),
        ({"popolation": 3}, "no setting `popolation` .did you mean `population`"),
    ],
)
def test_settings_at_odds_are_refused(toy_model, pairs, settings, message):
    with pytest.raises(ConfigError, match=message):
        search_neurons(toy_model, pairs[0].retain, progress=False, **settings)


def test_masks_that_break_the_model_are_an_error(toy_model, pairs):
    with torch.no_grad():
        next(toy_model.parameters()).fill_(torch.nan)
    with pytest.raises(StatisticsError, match="must leave a finite loss, but no mask of 4 did"):
        search_neurons(toy_model, pairs[0].retain, **QUICK, groups=neuron_groups(crowd_twin(toy_model)))


def crowd_twin(model):
    """The same model with weights that groups can be found in."""
    twin = deepcopy(model)
    with torch.no_grad():
        next(twin.parameters()).normal_(generator=torch.Generator().manual_seed(0))
    return twin


def test_a_crowd_of_experts_answers_as_each_masked_model_alone(blocks_of):
    model = tiny_model("qwen3_moe", vocab_size=64)
    batch = blocks_of(torch.randint(64, (3, 7), generator=torch.Generator().manual_seed(2)))
    crowd = crowd_of(model, rank=1)
    assert any(group.experts for group in crowd.groups)
    kept = masks_of(crowd, 3)
    with torch.no_grad():
        together = crowd.losses(torch.zeros(kept.shape), kept, batch)
    for row, loss in zip(kept, together.tolist(), strict=True):
        with masked(model, mask_of(crowd, row)):
            assert loss == pytest.approx(loss_of(model, batch), abs=2e-5)
