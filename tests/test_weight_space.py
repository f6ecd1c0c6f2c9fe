"""Where the weights went: distance, rank and energy of an update, and the losses on the straight line."""

from copy import deepcopy

import pytest
import torch
from records import an_attack

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.attacks.context import Scene
from hf_untangle.attacks.weight_difference import written_directions
from hf_untangle.attacks.weight_space import effective_rank, weight_space
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.reporting.attacks import attack_markdown, attack_sentences


@pytest.fixture
def moved(taught, tokenizer, pairs):
    """The toy model, and how it compares with a copy of which one output projection was changed by an update of rank 1."""
    unlearned = deepcopy(taught)
    groups = neuron_groups(taught)
    weight = unlearned.get_submodule(groups[-1].name).weight
    column = torch.randn(weight.shape[0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weight += torch.outer(column, torch.ones(weight.shape[1]))
    everything = NeuronMask.keep_all(groups, "toy")
    text, config = pairs[1], AttackConfig(batch_size=16)
    scene = Scene(unlearned, taught, None, everything, groups, tokenizer, text.forget, text.retain, None, config)
    return scene, weight, column


@pytest.fixture
def compared(moved, taught):
    """What is said of it."""
    scene, _, _ = moved
    return weight_space(scene, scene.judge(taught), scene.judge(scene.unlearned))


def test_an_update_of_rank_one_in_one_matrix(compared, moved, taught):
    _, weight, column = moved
    size = torch.cat([one.detach().flatten() for one in taught.parameters()]).norm()
    assert compared.relative_distance == pytest.approx(float(column.norm() * weight.shape[1] ** 0.5 / size), rel=1e-4)
    assert compared.changed == pytest.approx(weight.numel() / taught.num_parameters())
    assert compared.effective_rank == pytest.approx(1.0, abs=1e-3)
    assert compared.energy_of_top == pytest.approx(1.0, abs=1e-6)
    assert compared.width == min(weight.shape)


def test_the_line_begins_at_the_original_and_ends_at_the_unlearned_model(compared, moved, taught):
    scene, weight, column = moved
    assert [point.share for point in compared.path] == [0.0, 0.25, 0.5, 0.75, 1.0]
    half = deepcopy(scene.unlearned)
    with torch.no_grad():
        half.get_submodule(scene.groups[-1].name).weight.sub_(0.5 * torch.outer(column, torch.ones(weight.shape[1])))
    middle = compared.path[2]
    assert middle.forget.loss == pytest.approx(scene.judge(half).forget.loss, rel=1e-4)
    assert (compared.path[0].forget, compared.path[4].retain) == (
        scene.judge(taught).forget,
        scene.judge(scene.unlearned).retain,
    )


def test_a_model_that_did_not_move_has_no_update(moved, taught):
    scene, _, _ = moved
    still = Scene(**{**vars(scene), "unlearned": taught})
    known = scene.judge(taught)
    found = weight_space(still, known, known)
    assert (found.relative_distance, found.changed, found.effective_rank, found.energy_of_top) == (0, 0, 0, 0)
    assert written_directions(still, taught, 0).shape[1] == 0


def test_the_written_direction_is_the_column_of_the_update(moved):
    scene, _, column = moved
    (direction,) = written_directions(scene, scene.unlearned, scene.groups[-1].layer).T
    assert abs(float(direction.float() @ column / column.norm())) == pytest.approx(1.0, abs=1e-4)
    assert written_directions(scene, scene.unlearned, 0).shape[1] == 0


def test_the_effective_rank_counts_equal_energies_and_ignores_small_ones():
    assert effective_rank(torch.tensor([0.0, 2.0, 2.0, 2.0])) == pytest.approx(3.0)
    assert effective_rank(torch.tensor([1e-12, 1.0])) == pytest.approx(1.0, abs=1e-6)


def test_report_and_card_say_it(compared):
    record = an_attack().model_copy(update={"weight_space": compared})
    rank, line = attack_sentences(record)
    assert "an effective rank of 1.0 of 32, and its 8 largest singular values hold 100.0% of its energy." in rank
    losses = ", ".join(f"{point.forget.loss:.2f}" for point in compared.path)
    assert f"the losses at 5 points are, on code {losses} nats" in line
    assert rank in attack_markdown(record)
