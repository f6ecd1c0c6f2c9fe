"""Compression of more than neurons: heads, blocks, layers, experts and all of them, under every kind of budget."""

from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from test_compaction_experts import mixture
from toy_languages import SMALL, WORDS
from transformers import AutoModelForCausalLM, PreTrainedModel

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import token_blocks
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.unrouted import unrouted
from hf_untangle.pruning import costs
from hf_untangle.pruning.plan_controls import random_mask, smallest_mask
from hf_untangle.pruning.sensitivity import shares_by

TINY: dict[str, Any] = SMALL | {"tokens": 512, "evaluation_tokens": 256, "search_tokens": 256, "progress": False}
LAYERS = 4


@pytest.fixture(scope="module")
def deep(tiny_model) -> PreTrainedModel:
    """A model of four layers, each with two key-value groups of two query heads; no test changes it."""
    return tiny_model("llama", num_hidden_layers=LAYERS)


@pytest.fixture
def plan(deep, tokenizer):
    """Plan a compression of the model, unless told otherwise."""
    return lambda model=deep, **settings: untangle.plan(model, WORDS, **{"tokenizer": tokenizer} | TINY | settings)


@pytest.fixture
def prune(deep, tokenizer):
    """Carry it out, in new tensors."""
    how = {"tokenizer": tokenizer, "compact": "uniform"} | TINY
    return lambda model=deep, **settings: untangle.prune(model, WORDS, **how | settings)


@pytest.fixture
def read(tokenizer):
    """The blocks of the train part that layers are compared on."""
    return token_blocks(WORDS, tokenizer, tokens=TINY["tokens"], part="train", block_size=TINY["block_size"]).first(8)


@pytest.fixture
def seconds_by_size(monkeypatch):
    """A machine whose speed is known: a pass takes one second for each parameter."""

    def fake(runs: list[partial], _: int) -> list[float]:
        return [float(sum(one.numel() for one in run.args[0].parameters())) for run in runs]

    monkeypatch.setattr(costs, "fastest_in_turn", fake)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(1, 17)[None]).logits


def body_size(model: PreTrainedModel) -> int:
    return sum(one.numel() for one in model.base_model.parameters())


def test_as_many_key_value_groups_of_every_layer_go_those_of_the_lowest_sum(plan):
    made = plan(unit="heads", ratio=0.5)
    for group in made.groups:
        kept = made.mask[group.name]
        if group.kind == "ffn":
            assert kept.all()
            continue
        stays, worth = kept.view(2, -1).any(1), made.importance[group.name].view(2, -1).sum(1)
        assert stays.tolist() == (worth == worth.max()).tolist()
        assert torch.equal(kept.view(2, -1).all(1), stays)


def test_a_model_with_fewer_heads_is_the_masked_one_and_loads_with_plain_transformers(deep, prune, untouched, tmp_path):
    with untouched(deep):
        result = prune(unit="heads", ratio=0.5)
    small = result.model
    assert (small.config.num_attention_heads, small.config.num_key_value_heads, small.config.head_dim) == (2, 1, 8)
    with untangle.masked(deep, result.mask):
        torch.testing.assert_close(logits(small), logits(deep), rtol=1e-4, atol=1e-4)
    assert result.record.parameters_removed == deep.num_parameters() - small.num_parameters()
    again = AutoModelForCausalLM.from_pretrained(result.save_pretrained(tmp_path / "small"))
    assert torch.equal(logits(again), logits(small))


def test_the_influence_of_a_layer_is_how_far_it_turns_hidden_states(deep, plan, read):
    made = plan(unit="layers", judge="influence", ratio=0.5)
    with torch.no_grad():
        states = deep.model(read.input_ids, output_hidden_states=True).hidden_states
        last = []
        handle = deep.model.layers[-1].register_forward_hook(lambda _, __, output: last.append(output))
        deep.model(read.input_ids)
        handle.remove()
    states = [*states[:LAYERS], last[0] if isinstance(last[0], torch.Tensor) else last[0][0]]
    turned = [1 - torch.cosine_similarity(*pair, dim=-1).mean() for pair in zip(states, states[1:], strict=False)]
    torch.testing.assert_close(made.choice.scores.float(), torch.stack(turned), rtol=1e-4, atol=1e-5)
    assert made.choice.gone == tuple(torch.stack(turned).argsort()[:2].tolist())


def test_layers_go_one_after_another_each_time_the_one_without_which_the_loss_is_lowest(deep, plan, read):
    made = plan(unit="layers", ratio=0.5)
    everything = untangle.NeuronMask.keep_all(made.groups, made.mask.model)
    gone: list[int] = []
    for number in made.choice.gone:
        losses = {}
        for layer in set(range(LAYERS)) - set(gone):
            with untangle.masked(deep, made.choice.units.without(everything, [*gone, layer])):
                losses[layer] = next_token_metrics(deep, read, progress=False).loss
        assert number == min(losses, key=lambda one: losses[one])
        assert made.choice.losses[number] == pytest.approx(losses[number], rel=1e-5)
        gone.append(number)


def test_layers_leave_the_model(deep, prune, tmp_path):
    result = prune(unit="layers", judge="influence", ratio=0.5)
    assert result.model.config.num_hidden_layers == len(result.model.model.layers) == 2
    with untangle.masked(deep, result.mask):
        torch.testing.assert_close(logits(result.model), logits(deep), rtol=1e-4, atol=1e-4)
    layer = sum(one.numel() for one in deep.model.layers[0].parameters())
    assert result.record.parameters_removed == result.plan.parameters_removed == 2 * layer
    folder = result.save_pretrained(tmp_path / "small")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(result.model))
    assert "2 of 4 layers" in (folder / "README.md").read_text()


def test_layers_in_place_are_zeros_and_come_back(tiny_model, prune):
    model = tiny_model("llama", num_hidden_layers=LAYERS)
    before = logits(model)
    result = prune(model, unit="layers", judge="influence", ratio=0.25, compact=None, keep_removed=True)
    assert len(model.model.layers) == LAYERS and not torch.equal(logits(model), before)
    result.restore()
    assert torch.equal(logits(model), before)


def test_a_block_alone_leaves_zeros_which_the_plan_counts(deep, plan, prune):
    made = plan(unit="blocks", judge="influence", parameters=5000)
    names = {made.choice.units.names[unit] for unit in made.choice.gone}
    assert names <= {f"layer {layer}, {kind}" for layer in range(LAYERS) for kind in ("FFN", "attention")}
    assert int(made.choice.units.parameters[list(made.choice.gone)].sum()) <= 5000
    assert {kept.any().item() for kept in made.mask.values() if not kept.all()} == {False}
    result = prune(unit="blocks", judge="influence", parameters=5000, compact=None, model=deepcopy(deep))
    with untangle.masked(deep, result.mask):
        torch.testing.assert_close(logits(result.model), logits(deep), rtol=1e-4, atol=1e-4)
    zeros = sum(int((after == 0).sum()) for after in result.model.parameters())
    assert 0 < result.record.parameters_removed == zeros


def test_experts_are_judged_by_what_they_write_and_their_routers_choose_among_the_others(prune, read):
    model = mixture("mixtral", vocab_size=258, num_hidden_layers=1)
    result = prune(model, unit="experts", ratio=0.34)
    block = model.model.layers[0].mlp
    seen = []
    handle = block.experts.register_forward_pre_hook(lambda _, args: seen.append(args))
    with torch.no_grad():
        for batch in token_blocks(WORDS, result.tokenizer, tokens=512, part="train", block_size=32).batches(16):
            model.model(batch.input_ids)
    handle.remove()
    sums, counts = torch.zeros(6), torch.zeros(6)
    for states, chosen, weights in seen:
        for expert in range(6):
            row, column = (chosen == expert).nonzero(as_tuple=True)
            gate, up = (states[row] @ block.experts.gate_up_proj[expert].T).chunk(2, -1)
            written = (torch.nn.functional.silu(gate) * up) @ block.experts.down_proj[expert].T
            sums[expert] += (written.norm(dim=-1) * weights[row, column]).sum().detach()
            counts[expert] += len(row)
    expected = sums / counts
    torch.testing.assert_close(result.plan.choice.scores.float(), expected, rtol=1e-4, atol=1e-5)
    assert sorted(result.plan.choice.gone) == sorted(expected.argsort()[:2].tolist())
    assert result.model.config.num_local_experts == 4
    with unrouted(model, neuron_groups(model), result.mask):
        torch.testing.assert_close(logits(result.model), logits(model), rtol=1e-4, atol=1e-4)
        after = next_token_metrics(model, result.held_out, progress=False).loss
    assert result.record.after.loss == pytest.approx(after, rel=1e-4)


@pytest.mark.parametrize("unit", ["neurons", "layers", "any"])
def test_a_model_takes_no_more_memory_than_it_may(deep, prune, unit):
    most = 0.8 * deep.get_memory_footprint()
    result = prune(unit=unit, memory=f"{most / 1e3:.1f}kB", judge=None if unit == "neurons" else "influence")
    assert 0.6 * most < result.model.get_memory_footprint() <= most + 50


@pytest.mark.parametrize("unit", ["neurons", "any"])
def test_a_model_is_as_fast_as_it_is_to_be(deep, prune, unit, seconds_by_size):
    result = prune(unit=unit, target="1.3x", judge=None if unit == "neurons" else "influence")
    assert 1.3 <= body_size(deep) / body_size(result.model) < 1.35


@pytest.mark.parametrize(("unit", "speed"), [("layers", "1.2x"), ("heads", "1.1x")])
def test_as_many_units_go_as_a_speed_takes_and_not_one_more(deep, prune, plan, unit, speed, seconds_by_size):
    result = prune(unit=unit, target=speed, judge="influence")
    assert body_size(deep) / body_size(result.model) >= float(speed[:-1])
    assert len(result.plan.choice.gone) == (1 if unit == "layers" else LAYERS)


def test_the_best_layout_is_the_one_of_the_lowest_loss_and_all_keep_to_the_budget(deep, plan, prune):
    made = plan(unit="any", judge="influence", ratio=0.3, compact="uniform")
    layouts = made.choice.layouts
    losses = [one.loss for one in layouts]
    assert losses == sorted(losses) and len({one.cut for one in layouts}) == len(layouts) >= 3
    assert {one.cut.layers for one in layouts} >= {0, 1}
    inside = sum(one.numel() for layer in deep.model.layers for one in layer.parameters())
    for one in layouts:
        assert deep.num_parameters() - 0.3 * inside <= one.parameters < deep.num_parameters()
    result = prune(unit="any", judge="influence", ratio=0.3)
    assert result.model.num_parameters() == pytest.approx(layouts[0].parameters, abs=200)


def test_layers_lose_the_less_the_more_the_loss_rises_when_they_alone_lose_their_share(deep, plan, read):
    made = plan(allocation="sensitivity", ratio=0.25)
    ffns = [group.name for group in made.groups if group.kind == "ffn"]
    before = next_token_metrics(deep, read, progress=False).loss
    for name in ffns:
        alone = untangle.NeuronMask.keep_all(made.groups, made.mask.model)
        alone[name][made.importance[name].argsort()[:12]] = False
        with untangle.masked(deep, alone):
            assert made.choice.rises[name] == pytest.approx(
                next_token_metrics(deep, read, progress=False).loss - before, abs=1e-5
            )
    gone = [int((~made.mask[name]).sum()) for name in ffns]
    rises = [made.choice.rises[name] for name in ffns]
    assert gone[rises.index(max(rises))] == min(gone) and 48 - LAYERS <= sum(gone) <= 48
    assert "loss rises alone" in made.describe()


def test_shares_are_inverse_to_rises_with_the_same_mean_and_never_above_nine_tenths():
    assert shares_by([1.0, 2.0, 4.0], 0.35) == pytest.approx((0.6, 0.3, 0.15))
    assert shares_by([1.0, 10.0, 10.0], 0.4) == pytest.approx((0.9, 0.15, 0.15))
    assert shares_by([-1.0, 1.0, 1.0], 0.1) == pytest.approx((0.25, 0.025, 0.025))


@pytest.mark.parametrize("settings", [{"unit": "heads", "ratio": 0.5}, {"unit": "layers"}, {"unit": "any", "ratio": 0.3}])
def test_controls_take_as_much_as_the_plan(plan, settings):
    made = plan(**{"judge": None if settings["unit"] == "heads" else "influence"} | settings)
    for mask in (random_mask(made, 0), random_mask(made, 1), smallest_mask(made)):
        assert mask.removed() == made.mask.removed()
    assert random_mask(made, 0) == random_mask(made, 0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"unit": "layers", "ratio": 0.5}, ["2 of 4 layers go, by loss: layer", "loss without it", "goes (2)"]),
        ({"unit": "heads", "ratio": 0.5}, ["4 of 8 heads go, by importance: layer 0, head", "importance"]),
        ({"unit": "any", "judge": "influence"}, ["layers go, and of every other layer", "parameters left", "chosen"]),
    ],
)
def test_a_plan_of_units_says_which_go_and_why(plan, settings, says):
    text = plan(**settings).describe()
    for part in says:
        assert part in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": "layers", "judge": "importance"}, "unit='layers' is judged by loss or influence, got judge='importance'"),
        ({"unit": "layers", "ratio": 0.1}, "must remove at least one of 4 layers, but it rounds to 0"),
        ({"unit": "heads", "ratio": 0.3}, "at least one of 8 heads, but it rounds to 0, as each layer loses the same number"),
        ({"unit": "blocks", "target": "1.5x"}, "a block alone leaves zeros"),
        ({"unit": "experts"}, "Experts that lie in one tensor are needed for unit='experts'"),
        ({"unit": "layers", "ablation": "mean"}, "for unit='neurons' alone"),
        ({"unit": "layers", "compensate": "least-squares"}, "compensate needs a block of which a part stays"),
        ({"unit": "any", "allocation": "global"}, "allocation='global' is for neurons and heads"),
        ({"unit": "heads", "allocation": "sensitivity"}, "allocation='sensitivity' is for neurons, got it with unit='heads'"),
        ({"target": "0.5x"}, "`target`: .*a number above 1 with an x"),
        ({"memory": "3 apples"}, "`memory`: .*a number with kB, MB or GB"),
        ({"memory": "3GB"}, "memory must be below the 0.2 MB that the weights take now, got 3GB"),
        ({"memory": "1kB"}, "still larger or slower than 1kB"),
        ({"memory": "1kB", "target": "2x"}, "the budget must be either `memory` or `target`, got both"),
    ],
)
def test_what_a_unit_has_no_meaning_for_is_refused_in_a_sentence(deep, plan, settings, message, untouched):
    with untouched(deep), pytest.raises(ConfigError, match=message):
        plan(**settings)


def test_attention_with_a_single_key_value_group_has_no_heads_to_give(tiny_model, plan):
    with pytest.raises(ConfigError, match="its attention has a single one in each layer"):
        plan(tiny_model("llama", num_key_value_heads=1), unit="heads", ratio=0.5)


def test_a_target_takes_what_is_removed_out_of_the_tensors():
    assert untangle.PruneConfig(target="1.5x").compact == "uniform"
    assert untangle.PruneConfig(unit="experts").compact == "uniform"
    assert untangle.PruneConfig(unit="layers").compact is None
