"""Models whose neurons cannot be found: their groups are named by hand, for whole calls too."""

from importlib import import_module

import pytest
import torch
from toy_languages import NUMBERS, SMALL, WORDS

import hf_untangle as untangle
from hf_untangle.errors import ArchitectureError, MaskError
from hf_untangle.masks.mask import NeuronMask

NAMED = {"model.layers.*.mlp.down_proj": "ffn"}
CALLS = ("unlearn", "prune", "compaction.compact", "results.strength")


@pytest.fixture
def found(toy_model):
    """All groups of the toy model, with their producers."""
    return untangle.neuron_groups(toy_model)


@pytest.fixture
def groups(toy_model, found, monkeypatch):
    """The FFNs of the toy model, named by hand; nothing else finds any."""
    named = untangle.neuron_groups(toy_model, named=NAMED)

    def fail(*_: object, **__: object) -> None:
        raise ArchitectureError("This model is not understood.")

    for call in CALLS:
        monkeypatch.setattr(import_module(f"hf_untangle.{call}"), "neuron_groups", fail)
    return named


def test_unlearning_takes_them_and_moves_along_its_frontier(toy_model, tokenizer, groups):
    how = {"tokenizer": tokenizer, "progress": False, "controls": 0, "steps": 2, "retain_budget": 1.0, "ffn_fraction": 0.1}
    with pytest.raises(ArchitectureError, match="not understood"):
        untangle.unlearn(toy_model, NUMBERS, WORDS, **how, **SMALL)
    result = untangle.unlearn(toy_model, NUMBERS, WORDS, groups=groups, keep_removed=True, **how, **SMALL)
    assert result.mask.removed("ffn") > 0 == result.mask.removed("attention")
    assert {group.name for group in result.record.groups} == {group.name for group in groups}
    result.at_strength(1, groups=groups, progress=False)
    assert result.mask == result.mask_path[0]
    for name, kept in result.mask.items():
        assert not toy_model.get_submodule(name).weight[:, ~kept].any()


def test_pruning_takes_them_with_its_plan(toy_model, tokenizer, groups):
    how = {"tokenizer": tokenizer, "progress": False, "groups": groups}
    plan = untangle.plan(toy_model, WORDS, ratio=0.25, tokens=512, evaluation_tokens=256, block_size=32, controls=0, **how)
    assert plan.mask.removed("ffn") == sum(group.size for group in groups) // 4
    result = untangle.prune(toy_model, plan, **how)
    assert result.mask == plan.mask
    with pytest.raises(MaskError, match="no such projection"):
        untangle.prune(toy_model, plan, tokenizer=tokenizer, groups=groups[:1], progress=False)


def test_compaction_takes_those_that_are_given_and_nothing_of_those_without_producers(toy_model, found, groups):
    mask = NeuronMask.keep_all(found, str(toy_model.name_or_path))
    first = groups[0].name
    mask = mask.with_kept(dict(mask) | {first: torch.arange(groups[0].size) >= 8})
    with pytest.raises(ArchitectureError, match="not understood"):
        untangle.compact(toy_model, mask)
    smaller = untangle.compact(toy_model, mask, groups=found)
    assert smaller.get_submodule(first).weight.shape[1] == groups[0].size - 8
    of_named = NeuronMask.keep_all(groups, str(toy_model.name_or_path)).with_kept(
        {group.name: mask[group.name] for group in groups}
    )
    kept = untangle.compact(toy_model, of_named, groups=groups).get_submodule(first).weight
    assert kept.shape[1] == groups[0].size and not kept[:, :8].any(), "zeros, in their places"
