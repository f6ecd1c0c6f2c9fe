"""A step in several passes: what rows of unequal length bring to a step does not depend on how many are run at a time."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batch_size import of_backward_pass
from hf_untangle.methods.combined_loss import Ask, prepare
from hf_untangle.methods.descent import _gradients
from hf_untangle.methods.registry import METHODS
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.methods.work import row_tokens, unlearning_work
from hf_untangle.pruning.step import Pair

TRAINED = [name for name, method in METHODS.items() if not method.is_edit]
ROWS = torch.arange(6)


@pytest.fixture
def step(tiny_model, tokenizer, padded_blocks):
    """Losses and gradients of one step on six rows of 2 to 12 tokens."""
    original = tiny_model("llama")

    def run(method, batch_size):
        model = deepcopy(original)
        ask = Ask(neuron_groups(model), tokenizer, layer=0, alternatives=("I do not know.",), batch_size=2, seed=0)
        objective = prepare(model, method, padded_blocks, padded_blocks, ask)
        with torch.no_grad():
            # Away from the original, where the gradient of its divergence is 0.
            model.lm_head.weight += torch.linspace(0, 0.1, model.lm_head.in_features)
        losses = _gradients(model, objective, 0.5, ROWS, ROWS, batch_size)
        return torch.tensor(losses), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    return run


@pytest.mark.parametrize("retain", ["nll", "kl", "hidden"])
@pytest.mark.parametrize("name", TRAINED)
def test_a_step_is_the_same_whatever_number_of_rows_is_run_at_a_time(step, name, retain):
    method = replace(METHODS[name], retain=retain)
    whole, gradients = step(method, 6)
    for batch_size in (1, 4):
        losses, others = step(method, batch_size)
        torch.testing.assert_close(losses, whole, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(others, gradients, atol=1e-5, rtol=1e-4)


def test_long_rows_bring_more_to_a_mean_over_tokens_and_as_much_to_one_over_rows(tiny_model, tokenizer, padded_blocks):
    model = tiny_model("llama")
    ask = Ask(neuron_groups(model), tokenizer, layer=0, alternatives=None, batch_size=6, seed=0)
    sizes = {
        name: prepare(model, METHODS[name], padded_blocks, padded_blocks, ask).sizes("forget", ROWS).tolist()
        for name in ("graddiff", "npo")
    }
    assert sizes == {"graddiff": [11, 8, 4, 1, 6, 11], "npo": [1] * 6}


@pytest.mark.parametrize(
    ("batch_size", "width", "rows"), [(8, 256, 1), (64, 256, 8), (8, 128, 2), (8, 28, 8), (8, 2048, 1), ("auto", 28, "auto")]
)
def test_a_pass_forward_and_back_has_an_eighth_of_the_rows_but_not_fewer_than_a_block_of_tokens(batch_size, width, rows):
    assert of_backward_pass(batch_size, width) == rows


def test_work_is_foreseen_by_the_tokens_that_rows_have(padded_blocks):
    pair = Pair(padded_blocks, padded_blocks)
    assert row_tokens(pair) == pytest.approx(47 / 6)
    config, own, tokens = UnlearnConfig(tokens=1024), MethodConfig(), {"train": 47, "validation": 47, "test": 47}
    short, whole = (unlearning_work(["graddiff"], config, own, tokens, row)["training"] for row in (row_tokens(pair), None))
    assert short == pytest.approx(whole * 8 / config.block_size, rel=0.05)
