"""Every attack finds what a model only hides, and nothing in a model that never knew."""

from copy import deepcopy

import pytest
import torch
from hiding import deepened, never_the_first_choice, off_the_grid, silent_at_the_start, suppressed, under_the_threshold
from toy_languages import BLOCK, NUMBERS, WORDS, trained_model

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.attacks.compressing import pruned, rounded
from hf_untangle.attacks.context import Scene
from hf_untangle.attacks.residual_stream import ridge
from hf_untangle.attacks.run import run_attacks
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.data.batches import token_blocks
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.reporting.verdicts import verdicts

SHARE = 0.3
CONFIG = AttackConfig(seeds=1, samples=24, block_size=BLOCK, batch_size=16, evaluation_tokens=1024)


@pytest.fixture(scope="module")
def never(tiny_model, tokenizer):
    """Two models that have read words alone."""
    return [trained_model(tiny_model, tokenizer, numbers=False, seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def texts(tokenizer):
    """Held-out blocks of both languages."""
    how = {"tokens": 1024, "block_size": BLOCK, "part": "test"}
    return [token_blocks(texts, tokenizer, **how) for texts in (NUMBERS, WORDS)]


@pytest.fixture(scope="module")
def ids(tokenizer):
    """Train blocks of both languages, by which hiding is done."""
    return [token_blocks(texts, tokenizer, tokens=1024, block_size=BLOCK).input_ids for texts in (NUMBERS, WORDS)]


@pytest.fixture(scope="module")
def judge(never, texts, tokenizer):
    """Run one attack beside a gold model, and judge it."""

    def call(attack, unlearned, original):
        everything = NeuronMask.keep_all(neuron_groups(original), "toy")
        config = CONFIG.with_settings(attacks=[attack])
        groups = neuron_groups(original)
        scene = Scene(unlearned, original, never[0], everything, groups, tokenizer, *texts, None, config)
        record = run_attacks(scene, progress=False)
        assert record.outcomes[0].error is None
        (found,) = [one for one in verdicts(record) if one.attack == attack]
        return found, {one.model: one.forget.top1 for one in record.base}

    return call


HIDERS = {
    "int4": lambda taught, ids: off_the_grid(taught, ids[0]),
    "prune": lambda taught, ids: under_the_threshold(taught, ids[0], SHARE),
    "direction": lambda taught, ids: (taught, suppressed(taught, *ids, layer=0)),
    "probe": lambda taught, ids: (taught, suppressed(taught, *ids, layer=1)),
    "patching": lambda taught, ids: (taught, suppressed(taught, *ids, layer=1)),
    "tuned-lens": lambda taught, ids: (deepened(taught), suppressed(deepened(taught), *ids, layer=2)),
    "formats": lambda taught, ids: (taught, silent_at_the_start(taught, BLOCK)),
    "best-of": lambda taught, ids: (taught, never_the_first_choice(taught)),
}


@pytest.mark.parametrize("attack", HIDERS)
def test_what_is_only_hidden_is_found(attack, taught, ids, judge):
    original, hider = HIDERS[attack](taught, ids)
    found, base = judge(attack, hider, original)
    assert base["unlearned"] < base["gold"] + 0.5 * (base["original"] - base["gold"]), "it does hide"
    assert found.judgment in ("leaks", "back"), found


@pytest.mark.parametrize("attack", HIDERS)
def test_in_a_model_that_never_knew_nothing_is_found(attack, taught, never, judge):
    found, _ = judge(attack, deepcopy(never[1]), taught)
    assert found.judgment == "holds", found


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
