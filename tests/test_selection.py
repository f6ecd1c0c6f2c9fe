"""From scores and a budget to a mask: how many go, which go first, and the random control."""

import pytest
import torch
from torch import Tensor

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.errors import ConfigError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like, remove_top

ATTENTION = [NeuronGroup(f"attention.{layer}", "attention", layer, 8, (), heads=4) for layer in range(2)]
FFN = [NeuronGroup(f"ffn.{layer}", "ffn", layer, size, ()) for layer, size in enumerate((10, 30))]
GROUPS = (ATTENTION[0], FFN[0], ATTENTION[1], FFN[1])
WHOLE = NeuronMask.keep_all(GROUPS, "m")


def scores(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.size, generator=generator) for group in GROUPS}


def removed(mask: NeuronMask) -> list[int]:
    """Neurons removed from attention.0, ffn.0, attention.1 and ffn.1."""
    return [int((~kept).sum()) for kept in mask.values()]


def test_the_highest_scores_of_a_kind_go_wherever_they_are():
    ranked = {name: torch.zeros_like(score) for name, score in scores().items()}
    ranked["ffn.0"][3], ranked["ffn.1"][5], ranked["ffn.1"][6], ranked["ffn.0"][9] = 9, 8, 7, -1
    mask = remove_top(WHOLE, ranked, GROUPS, {"ffn": 3 / 40})
    assert removed(mask) == [0, 1, 0, 2]
    assert not mask["ffn.0"][3] and not mask["ffn.1"][5] and not mask["ffn.1"][6]


def test_global_scope_removes_a_fraction_of_each_kind():
    mask = remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.25, "attention": 0.5})
    assert (mask.removed("ffn"), mask.removed("attention")) == (10, 8)
    every = torch.cat([scores()["ffn.0"], scores()["ffn.1"]])
    gone = torch.cat([~mask["ffn.0"], ~mask["ffn.1"]])
    assert every[gone].min() > every[~gone].max()


def test_layer_scope_removes_the_same_fraction_of_every_group():
    mask = remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.1, "attention": 0.25}, scope="layer")
    assert removed(mask) == [2, 1, 2, 3]


def test_head_scope_removes_whole_heads_and_single_ffn_neurons():
    mask = remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.25, "attention": 0.25}, scope="head")
    assert (mask.removed("ffn"), mask.removed("attention")) == (10, 4)
    for group in ATTENTION:
        heads = mask[group.name].view(4, 2)
        assert torch.equal(heads.any(1), heads.all(1))


@pytest.mark.parametrize(("head_score", "head"), [("mean", 2), ("median", 1), ("max", 0)])
def test_a_head_is_scored_by_the_mean_median_or_maximum_of_its_neurons(head_score, head):
    group = NeuronGroup("attention", "attention", 0, 9, (), heads=3)
    values = {"attention": torch.tensor([9.0, 0, 0, 4, 5, 0, 7, 3, 3])}
    whole = NeuronMask.keep_all((group,), "m")
    mask = remove_top(whole, values, (group,), {"attention": 1 / 3}, scope="head", head_score=head_score)
    assert (~mask["attention"]).view(3, 3).all(1).nonzero().item() == head
    assert mask.removed() == 3


def test_every_step_removes_a_fraction_of_the_original_width():
    mask, sizes = WHOLE, []
    for step in range(4):
        mask = remove_top(mask, scores(step), GROUPS, {"ffn": 0.2})
        sizes.append(mask.removed("ffn"))
    assert sizes == [8, 16, 24, 32]


@pytest.mark.parametrize("scope", ["global", "layer", "head"])
def test_when_less_is_left_than_asked_for_all_of_it_goes(scope):
    most = remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.8, "attention": 0.75}, scope=scope)
    rest = remove_top(most, scores(1), GROUPS, {"ffn": 0.8, "attention": 0.75}, scope=scope)
    assert rest.removed() == rest.neurons()
    assert remove_top(rest, scores(2), GROUPS, {"ffn": 1.0, "attention": 1.0}, scope=scope) == rest


@pytest.mark.parametrize("scope", ["global", "layer", "head"])
def test_what_is_removed_stays_removed_and_is_not_counted_again(scope):
    first = remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.25, "attention": 0.25}, scope=scope)
    second = remove_top(first, scores(), GROUPS, {"ffn": 0.25, "attention": 0.25}, scope=scope)
    assert first & second == second
    assert second.removed() == 2 * first.removed()


def test_spared_neurons_stay_even_when_nothing_else_is_left():
    spared = {name: score.clone() for name, score in scores().items()}
    spared["ffn.0"][:4] = -torch.inf
    mask = remove_top(WHOLE, spared, GROUPS, {"ffn": 1.0})
    assert removed(mask) == [0, 6, 0, 30]
    assert mask["ffn.0"][:4].all()


@pytest.mark.parametrize("fraction", [0.29, 0.57, 0.07])
def test_a_fraction_that_rounding_puts_just_below_a_whole_number_still_reaches_it(fraction):
    group = NeuronGroup("ffn", "ffn", 0, 100, ())
    mask = remove_top(NeuronMask.keep_all((group,), "m"), {"ffn": torch.rand(100)}, (group,), {"ffn": fraction})
    assert mask.removed() == round(100 * fraction)


def test_a_part_of_a_neuron_does_not_go():
    assert remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.99 / 40}).removed() == 0


def test_a_kind_that_the_model_lacks_or_that_is_left_out_is_left_alone():
    only = tuple(FFN)
    mask = remove_top(NeuronMask.keep_all(only, "m"), scores(), only, {"ffn": 0.5, "attention": 0.5})
    assert mask.removed() == 20
    assert remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.5}).removed("attention") == 0


def test_the_mask_that_is_added_to_is_left_as_it_was():
    remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.5, "attention": 0.5})
    assert WHOLE.removed() == 0


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan")])
def test_a_fraction_outside_0_to_1_is_an_error(fraction):
    with pytest.raises(ConfigError, match=f"The ffn fraction must be between 0 and 1, got {fraction}"):
        remove_top(WHOLE, scores(), GROUPS, {"ffn": fraction})


def test_a_random_mask_removes_as_many_of_every_group_but_others():
    mask = remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.4, "attention": 0.4})
    control = random_like(mask, seed=0)
    assert removed(control) == removed(mask)
    assert (control.kinds, control.model) == (mask.kinds, mask.model)
    assert control != mask


def test_a_random_mask_is_the_same_for_the_same_seed_only():
    mask = remove_top(WHOLE, scores(), GROUPS, {"ffn": 0.4, "attention": 0.4})
    assert random_like(mask, seed=5) == random_like(mask, seed=5)
    assert random_like(mask, seed=5) != random_like(mask, seed=6)


def test_random_masks_do_not_touch_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    random_like(WHOLE, seed=5)
    assert torch.equal(torch.rand(1), expected)
