"""Every attack finds what a model only hides, and nothing in a model that never knew."""

from collections import Counter

import pytest
import torch
from attack_power import ROWS, attack_hider, attacked, one_seed, toys_of

from hf_untangle.attacks.compressing import pruned, rounded
from hf_untangle.attacks.residual_stream import ridge
from hf_untangle.attacks.weight_difference import auc
from hf_untangle.configs.attack import NAMES
from hf_untangle.reporting.verdicts import verdicts

FOUND = ("leaks", "back")
pytestmark = pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning")


@pytest.fixture(scope="module")
def toys():
    """The models and texts of one seed."""
    return toys_of(seed=7)


@pytest.fixture(scope="module")
def innocent(toys):
    """Every verdict on the model that never knew."""
    return {one.attack: one for one in verdicts(attacked(toys, list(NAMES), toys.never, toys.knows, toys.gold))}


@pytest.mark.parametrize("attack", NAMES)
def test_what_is_only_hidden_is_found(attack, toys):
    record = attack_hider(toys, attack)
    (found,) = [one for one in verdicts(record) if one.attack == attack]
    assert found.judgment in FOUND, found


@pytest.mark.parametrize("attack", NAMES)
def test_in_a_model_that_never_knew_nothing_is_found(attack, innocent):
    assert innocent[attack].judgment == "holds", innocent[attack]


def test_by_a_gold_model_of_another_code_patching_says_nothing(toys):
    record = attacked(toys, ["patching"], toys.never, toys.knows, toys.other_gold)
    (found,) = [one for one in verdicts(record) if one.attack == "patching"]
    assert found.judgment == "no verdict"
    assert "states mean nothing to the original" in record.outcomes[0].findings[0]


@pytest.mark.slow
def test_over_twenty_seeds_every_attack_has_power_and_hardly_a_false_alarm():
    # Of gold's states as much can be read nearly as of the original's: a small difference, which more text makes sure.
    by_tokens = {8192: ["probe"], 2048: [name for name in NAMES if name != "probe"]}
    counts = Counter(
        (one.attack, row)
        for seed in range(20, 40)
        for tokens, attacks in by_tokens.items()
        for row, records in one_seed(toys_of(seed, tokens), attacks, list(ROWS)).items()
        for record in records
        for one in verdicts(record)
        if one.judgment in FOUND
    )
    assert [name for name in NAMES if counts[name, "hides"] < 0.9 * 20] == []
    assert [(name, row) for row in ROWS[1:] for name in NAMES if counts[name, row] > 0.1 * 20] == []


def test_the_first_direction_tells_scores_apart_by_the_area_under_the_curve():
    high, low = torch.tensor([2.0, 3.0, 5.0]), torch.tensor([1.0, 3.0])
    assert auc(high, low) == pytest.approx((1 + 1.5 + 2) / 6)
    assert auc(low, low) == 0.5


def test_rounding_keeps_what_is_on_the_grid_and_zeros():
    weight = torch.tensor([[7.0, -3.0, 0.0, 1.4], [0.5, 0.0, -0.2, 0.0]])
    assert rounded(weight, None)[0].tolist() == [7.0, -3.0, 0.0, 1.0]
    assert torch.equal(rounded(weight, 3), rounded(weight, None)), "groups that do not divide the row are the row"
    assert (rounded(weight, 2) == 0).sum() == 3


def test_pruning_takes_the_least_of_what_is_there():
    weight = torch.tensor([[0.0, 0.0, 1.0, -2.0, 3.0, 4.0]])
    assert pruned(weight, weight.abs(), 0.5).tolist() == [[0.0, 0.0, 0.0, 0.0, 3.0, 4.0]]


def test_the_ridge_finds_an_affine_map():
    inputs = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    outputs = inputs @ torch.arange(10.0).view(5, 2) + 3
    assert torch.allclose(ridge(inputs, outputs)(inputs).float(), outputs, atol=0.1)
