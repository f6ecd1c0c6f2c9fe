"""Whole experts taken out: routers choose among the others, as if the experts that go had a score of minus infinity."""

import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.experts import cut_experts
from hf_untangle.errors import CompactionError, MaskError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.unrouted import unrouted

SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
}
EXPERTS = 6
FAMILIES = {
    "mixtral": {"num_local_experts": EXPERTS},
    "qwen3_moe": {"num_experts": EXPERTS, "head_dim": 8, "norm_topk_prob": False},
    "gpt_oss": {"num_local_experts": EXPERTS, "head_dim": 8},
    "deepseek_v3": {
        "n_routed_experts": EXPERTS,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
    },
}
"""Routers by softmax before and after the choice, with biases, and by sigmoid with a correction of the choice."""
IDS = torch.arange(1, 17)[None]
APART = """
import sys, torch
sys.modules["hf_untangle"] = None
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("small")
with torch.no_grad():
    save_file({"logits": model(torch.arange(1, 17)[None]).logits}, "apart.safetensors")
"""
"""Loads a checkpoint in a process that cannot import this package, and writes down what the model says."""


def mixture(family: str, **settings) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SMALL | FAMILIES[family] | settings)).eval()
    with torch.no_grad():
        for one in [*model.parameters(), *(own for name, own in model.named_buffers() if "correction" in name)]:
            one += 0.3 * torch.randn_like(one)
        for name, own in model.named_buffers():
            own *= 0.1 if "correction" in name else 1
    model.name_or_path = f"tiny-{family}"
    return model


def without(model: PreTrainedModel, gone: list[int], *, later: list[int] | None = None) -> NeuronMask:
    """A mask that removes experts, others in later layers than in the first one that has any."""
    groups = neuron_groups(model)
    first = min(group.layer for group in groups if group.experts)
    kept = {}
    for group in groups:
        stays = torch.ones(group.size, dtype=torch.bool)
        if group.experts:
            stays.view(group.experts, -1)[gone if group.layer == first or later is None else later] = False
        kept[group.name] = stays
    return NeuronMask.keep_all(groups, str(model.name_or_path)).with_kept(kept)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_smaller_mixture_is_the_whole_one_whose_routers_pass_some_experts_by(family, untouched):
    model = mixture(family)
    mask = without(model, [0, 4], later=[1, 2])
    whole = logits(model)
    with untouched(model):
        with unrouted(model, neuron_groups(model), mask):
            expected = logits(model)
        small = cut_experts(model, mask)
    torch.testing.assert_close(logits(small), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, whole, atol=1e-3)
    assert small.num_parameters() < model.num_parameters()


def test_a_mixture_by_hand():
    model = mixture("mixtral", num_hidden_layers=1)
    small = cut_experts(model, without(model, [1, 3]))
    block, before = small.model.layers[0].mlp, model.model.layers[0].mlp
    stays = [0, 2, 4, 5]
    assert small.config.num_local_experts == len(stays)
    assert torch.equal(block.gate.weight, before.gate.weight[stays])
    assert torch.equal(block.experts.down_proj, before.experts.down_proj[stays])
    states = torch.randn(3, SMALL["hidden_size"])
    weights, chosen = (states @ before.gate.weight[stays].T).softmax(-1).topk(2)
    weights = weights / weights.sum(-1, keepdim=True)
    expected = torch.zeros_like(states)
    for row in range(3):
        for weight, expert in zip(weights[row], chosen[row], strict=True):
            gate, up = (before.experts.gate_up_proj[stays[expert]] @ states[row]).chunk(2)
            expected[row] += weight * (before.experts.down_proj[stays[expert]] @ (nn.functional.silu(gate) * up))
    torch.testing.assert_close(block(states[None])[0].detach(), expected.detach(), rtol=1e-4, atol=1e-5)


def test_a_smaller_mixture_loads_bit_for_bit_where_this_package_is_missing(tmp_path):
    small = cut_experts(model := mixture("deepseek_v3"), without(model, [0, 5]))
    small.save_pretrained(tmp_path / "small")
    subprocess.run([sys.executable, "-c", APART], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert torch.equal(load_file(tmp_path / "apart.safetensors")["logits"], logits(small))


@pytest.mark.parametrize(
    ("gone", "later", "message"),
    [
        ([], None, "fewer than all and at least one, but the mask keeps 6"),
        ([0], [0, 1], "the mask keeps 4 or 5"),
        ([0, 1, 2, 3, 4], None, re.escape("A token is sent to 2 experts of a layer (`num_experts_per_tok`)")),
    ],
)
def test_a_number_of_experts_that_makes_no_model_is_refused(gone, later, message, untouched):
    model = mixture("mixtral")
    with untouched(model), pytest.raises(CompactionError, match=message):
        cut_experts(model, without(model, gone, later=later))


def test_experts_that_are_chosen_in_groups_are_refused(untouched):
    model = mixture("deepseek_v3", n_group=3, topk_group=2)
    with untouched(model), pytest.raises(CompactionError, match="chooses in groups of experts"):
        cut_experts(model, without(model, [0, 1, 3]))


def test_a_model_without_experts_is_refused(tiny_model):
    model = tiny_model("llama")
    with pytest.raises(CompactionError, match="this LlamaForCausalLM has none"):
        cut_experts(model, NeuronMask.keep_all(neuron_groups(model), "tiny-llama"))


def test_a_mask_of_another_model_is_refused(tiny_model):
    model = tiny_model("llama")
    with pytest.raises(MaskError):
        cut_experts(mixture("mixtral"), NeuronMask.keep_all(neuron_groups(model), "tiny-llama"))
