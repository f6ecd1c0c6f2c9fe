"""Neurons of experts: watched, masked, removed and weighed like any other, and 0 at tokens that are routed elsewhere."""

import logging

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from hf_untangle.architecture.hooks import intercepted
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.errors import MaskError, StatisticsError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_, removed_parameters
from hf_untangle.statistics.accumulators import observed
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency
from hf_untangle.survey.invariants import random_mask
from hf_untangle.survey.tiny_models import tiny_model

EXPERTS, WIDTH, ROWS = 4, 40, 80
FUSED = ("mixtral", "gpt_oss", "nemotron_h", "llama4_text", "longcat_flash")
"""Gated, interleaved and transposed with biases, without a gate, sorted tokens, and with experts that do nothing."""
VOCABULARY = {"vocab_size": 258}


def mixture(model_type: str = "mixtral") -> nn.Module:
    return tiny_model(model_type, **VOCABULARY)


def experts_in(model: nn.Module) -> NeuronGroup:
    return next(group for group in neuron_groups(model) if group.experts)


def logits(model: nn.Module, blocks) -> Tensor:
    with torch.no_grad():
        return model(blocks.input_ids).logits


def dense_neurons(model: nn.Module, layer: int, blocks) -> Tensor:
    """Every expert's neurons at every token of a Mixtral layer, 0 where a token is routed elsewhere, by its definition."""
    seen: dict[str, tuple] = {}
    experts = model.model.layers[layer].mlp.experts
    handle = experts.register_forward_pre_hook(lambda _, args: seen.update(args=args))
    logits(model, blocks)
    handle.remove()
    states, chosen, _ = seen["args"]
    gate, up = torch.einsum("th,eoh->teo", states, experts.gate_up_proj).chunk(2, dim=-1)
    routed = torch.zeros(len(states), EXPERTS).scatter(1, chosen, 1.0)
    return (nn.functional.silu(gate) * up * routed[..., None]).flatten(1).detach()


def test_the_experts_of_a_layer_are_one_group_expert_by_expert():
    model = mixture()
    group = experts_in(model)
    assert (group.name, group.kind, group.layer, group.stack) == (
        "model.layers.0.mlp.experts.down_proj",
        "ffn",
        0,
        "model.layers",
    )
    assert (group.size, group.experts, group.heads) == (EXPERTS * WIDTH, EXPERTS, None)
    gate, up = group.producers
    assert gate.name == up.name == "model.layers.0.mlp.experts.gate_up_proj"
    assert gate.rows[[0, WIDTH, 3 * WIDTH + 5]].tolist() == [0, ROWS, 3 * ROWS + 5]
    assert up.rows[[0, WIDTH, 3 * WIDTH + 5]].tolist() == [WIDTH, ROWS + WIDTH, 3 * ROWS + WIDTH + 5]


def test_gate_and_up_rows_that_alternate_are_told_apart():
    gate, up = experts_in(mixture("gpt_oss")).producers
    assert gate.rows[:3].tolist() == [0, 2, 4]
    assert up.rows[:3].tolist() == [1, 3, 5]


def test_experts_without_a_gate_have_one_producer():
    (up,) = experts_in(mixture("nemotron_h")).producers
    assert up.name.endswith("experts.up_proj")
    assert up.rows.tolist() == list(range(len(up.rows)))


def test_a_shared_expert_is_a_group_of_its_own():
    names = [group.name for group in neuron_groups(mixture("qwen2_moe")) if group.layer == 0 and group.kind == "ffn"]
    assert names == ["model.layers.0.mlp.shared_expert.down_proj", "model.layers.0.mlp.experts.down_proj"]


@pytest.mark.parametrize("model_type", FUSED)
def test_watching_experts_changes_nothing_but_rounding(model_type, blocks, untouched):
    model = mixture(model_type)
    expected = logits(model, blocks)
    with untouched(model):
        with observed(model, neuron_groups(model), lambda *_: None):
            watched = logits(model, blocks)
        torch.testing.assert_close(watched, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(logits(model, blocks), expected)


@pytest.mark.parametrize("model_type", FUSED)
def test_removal_gives_the_logits_of_the_mask(model_type, blocks):
    model = mixture(model_type)
    groups = neuron_groups(model)
    mask = random_mask(groups, model)
    before = logits(model, blocks)
    with masked(model, mask):
        silenced = logits(model, blocks)
    remove_(model, mask, groups)
    assert not torch.allclose(before, silenced, rtol=1e-2)
    torch.testing.assert_close(logits(model, blocks), silenced, rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_all_tokens_with_zeros_where_a_token_is_routed_elsewhere(blocks):
    model = mixture()
    group = experts_in(model)
    moments = collect(model, blocks, batch_size=2, roots=True, progress=False)[group.name]
    z = dense_neurons(model, 0, blocks).double()
    assert moments.count == blocks.tokens
    torch.testing.assert_close(moments.total, z.sum(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moments.absolute, z.abs().sum(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moments.square, z.square().sum(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moments.positive, (z > 0).double().sum(0))
    torch.testing.assert_close(moments.root, z.abs().sqrt().sum(0), rtol=1e-4, atol=1e-4)
    routed = z.view(len(z), EXPERTS, WIDTH).any(-1).sum(0)
    assert moments.routed.tolist() == routed.tolist()
    assert moments.routed.sum() == 2 * blocks.tokens


def test_every_batch_size_gives_the_same_statistics(blocks):
    model = mixture()
    name = experts_in(model).name
    one, all_at_once = (collect(model, blocks, batch_size=size, progress=False)[name] for size in (1, 6))
    torch.testing.assert_close(one.square, all_at_once.square, rtol=1e-4, atol=1e-4)
    assert one.routed.tolist() == all_at_once.routed.tolist()


def test_padding_is_not_counted_in_experts(blocks, padded_blocks, blocks_of):
    model = mixture()
    group = experts_in(model)
    padded = collect(model, padded_blocks, progress=False)[group.name]
    rows = [ids[kept][None] for ids, kept in zip(padded_blocks.input_ids, padded_blocks.attention_mask, strict=True)]
    alone = [collect(model, blocks_of(ids), progress=False)[group.name] for ids in rows]
    assert padded.count == padded_blocks.tokens
    assert padded.routed.tolist() == sum(one.routed for one in alone).tolist()
    torch.testing.assert_close(padded.absolute, sum(one.absolute for one in alone), rtol=1e-4, atol=1e-4)


def test_statistics_of_experts_can_be_added_saved_and_loaded(blocks, tmp_path):
    model = mixture()
    name = experts_in(model).name
    once = collect(model, blocks, progress=False)
    (once + once).save(tmp_path / "twice.safetensors")
    twice = type(once).load(tmp_path / "twice.safetensors")[name]
    assert twice.count == 2 * blocks.tokens
    assert twice.routed.tolist() == (2 * once[name].routed).tolist()


def test_watching_inside_a_mask_sees_silenced_neurons(blocks):
    model = mixture()
    groups = neuron_groups(model)
    mask = random_mask(groups, model)
    with masked(model, mask):
        statistics = collect(model, blocks, groups=groups, progress=False)
    name = experts_in(model).name
    assert not statistics[name].absolute[~mask[name]].any()
    assert statistics[name].absolute[mask[name]].any()


def test_an_expert_that_saw_no_token_is_reported(blocks, caplog):
    model = mixture("minimax_m2")
    silence_expert(model.model.layers[0].mlp.gate, 2, model.model.layers[0].mlp)
    group = experts_in(model)
    with caplog.at_level(logging.WARNING, logger="hf_untangle"):
        moments = collect(model, blocks, groups=(group,), progress=False)[group.name]
    assert moments.routed[2] == 0
    assert f"Of the 4 experts of `{group.name}`, these saw no token: [2]." in caplog.text


def silence_expert(gate: nn.Module, expert: int, block: nn.Module) -> None:
    """Make sure that no token chooses an expert."""
    with torch.no_grad():
        block.e_score_correction_bias[expert] = -1e6


def test_experts_that_saw_no_token_at_all_are_an_error(blocks, monkeypatch):
    model = mixture()
    group = experts_in(model)
    experts = model.model.layers[0].mlp.experts
    monkeypatch.setattr(experts, "forward", lambda states, *_: torch.zeros_like(states))
    with pytest.raises(StatisticsError, match="must see tokens, but `model.layers.0.mlp.experts.down_proj` saw none"):
        collect(model, blocks, groups=(group,), progress=False)


def test_saliency_is_the_gradient_of_the_loss_by_the_size_of_each_neuron(blocks):
    model = mixture()
    group = experts_in(model)
    saliency = collect_saliency(model, blocks, groups=(group,), batch_size=6, progress=False)[group.name]
    size = torch.ones(group.size, requires_grad=True)

    def scale(reading: Reading) -> Tensor:
        return reading.values * size[reading.neurons]

    with intercepted(model, {group.name: scale}):
        loss = model(blocks.input_ids, labels=blocks.input_ids).loss * saliency.count
    (gradient,) = torch.autograd.grad(loss, size)
    torch.testing.assert_close(saliency.first.float(), gradient, rtol=1e-3, atol=1e-3)


def test_nested_interceptors_run_from_the_outside_in(blocks):
    model = mixture()
    name = experts_in(model).name
    order: list[str] = []
    with (
        intercepted(model, {name: lambda _: order.append("outer")}),
        intercepted(model, {name: lambda _: order.append("inner")}),
    ):
        logits(model, blocks)
    assert order[:2] == ["outer", "inner"]
    assert len(order) % 2 == 0


@pytest.mark.parametrize("model_type", ["mixtral", "llama4_text"])
def test_a_failing_interceptor_leaves_the_model_as_it_was(model_type, blocks, untouched):
    model = mixture(model_type)
    name = experts_in(model).name
    before = (model.config._experts_implementation, len(ALL_EXPERTS_FUNCTIONS))

    def fail(_: Reading) -> Tensor:
        raise KeyboardInterrupt

    with untouched(model), pytest.raises(KeyboardInterrupt), intercepted(model, {name: fail}):
        logits(model, blocks)
    assert (model.config._experts_implementation, len(ALL_EXPERTS_FUNCTIONS)) == before


def test_a_mask_for_experts_of_another_size_is_an_error():
    model, other = mixture(), tiny_model("mixtral", intermediate_size=24)
    mask = NeuronMask.keep_all(neuron_groups(other), "other")
    with (
        pytest.raises(MaskError, match=r"The mask has 96 neurons for `model.layers.0.mlp.experts.down_proj`, but .* 160"),
        masked(model, mask),
    ):
        pass


def test_removing_one_neuron_of_one_expert_zeroes_its_rows_and_column_alone():
    model = mixture()
    groups = neuron_groups(model)
    group, experts = experts_in(model), model.model.layers[0].mlp.experts
    kept = NeuronMask.keep_all(groups, "m")
    kept[group.name][2 * WIDTH + 7] = False
    before = {name: value.clone() for name, value in experts.named_parameters()}
    assert removed_parameters(model, kept, groups) == 3 * 32
    remove_(model, kept, groups)
    changed_down = (experts.down_proj != before["down_proj"]).nonzero()
    changed_rows = (experts.gate_up_proj != before["gate_up_proj"]).nonzero()
    assert changed_down[:, [0, 2]].unique(dim=0).tolist() == [[2, 7]]
    assert changed_rows[:, :2].unique(dim=0).tolist() == [[2, 7], [2, WIDTH + 7]]
    assert not experts.down_proj[2, :, 7].any() and not experts.gate_up_proj[2, [7, WIDTH + 7]].any()


def test_removed_biases_of_experts_are_zero():
    model = mixture("gpt_oss")
    groups = neuron_groups(model)
    group, experts = experts_in(model), model.model.layers[0].mlp.experts
    kept = NeuronMask.keep_all(groups, "m")
    kept[group.name][WIDTH + 1] = False
    remove_(model, kept, groups)
    assert not experts.gate_up_proj_bias[1, [2, 3]].any()
    assert not experts.gate_up_proj[1, :, [2, 3]].any() and not experts.down_proj[1, 1].any()
    assert experts.gate_up_proj_bias[1, [0, 1, 4, 5]].all()
