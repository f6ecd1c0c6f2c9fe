"""Experts that are a module each, as models have them whose code comes with the checkpoint."""

import pytest
import torch
from conftest import FAMILIES
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.errors import StatisticsError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency

NUMBER = 6


class Expert(nn.Module):
    def __init__(self, width: int, size: int):
        super().__init__()
        self.w1, self.w3 = (nn.Linear(width, size, bias=False) for _ in range(2))
        self.w2 = nn.Linear(size, width, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return self.w2(nn.functional.silu(self.w1(states)) * self.w3(states))


class Mixture(nn.Module):
    """Each token goes to two of the experts."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.gate = nn.Linear(width, NUMBER, bias=False)
        self.experts = nn.ModuleList(Expert(width, size) for _ in range(NUMBER))

    def forward(self, states: Tensor) -> Tensor:
        tokens = states.flatten(0, -2)
        weights, chosen = self.gate(tokens).softmax(-1).topk(2)
        output = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            rows, places = (chosen == number).nonzero(as_tuple=True)
            if len(rows):
                output.index_add_(0, rows, expert(tokens[rows]) * weights[rows, places, None])
        return output.view_as(states)


@pytest.fixture
def mixture():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **FAMILIES["llama"])).eval()
    for layer in model.model.layers:
        layer.mlp = Mixture(model.config.hidden_size, 12)
    return model


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(250, (4, 16), generator=torch.Generator().manual_seed(1))


def test_all_experts_are_located_though_dummy_tokens_reach_only_some(mixture):
    groups = [group for group in neuron_groups(mixture) if group.kind == "ffn"]
    expected = {f"model.layers.{layer}.mlp.experts.{number}.w2" for layer in range(2) for number in range(NUMBER)}
    assert {group.name for group in groups} == expected
    assert len(groups) == len(expected)
    for group in groups:
        assert group.experts == 1
        rows = {group.name.replace("w2", "w1"), group.name.replace("w2", "w3")}
        assert {producer.name for producer in group.producers} == rows


def test_masked_is_removed_in_experts_of_every_kind(mixture, ids, untouched):
    groups = neuron_groups(mixture)
    some = {group.name: torch.arange(group.size) % 3 > 0 for group in groups if group.kind == "ffn"}
    mask = NeuronMask.keep_all(groups, "m").with_kept(some)
    with torch.no_grad():
        whole = mixture(ids).logits
        with untouched(mixture), masked(mixture, mask):
            silenced = mixture(ids).logits
        remove_(mixture, mask, groups)
        assert torch.allclose(mixture(ids).logits, silenced, atol=1e-5)
    assert (silenced - whole).abs().max() > 1e-4
    assert not mixture.model.layers[1].mlp.experts[4].w1.weight[~some["model.layers.1.mlp.experts.4.w2"]].any()


def test_a_neuron_is_zero_at_tokens_that_its_expert_does_not_see(mixture, ids, blocks_of):
    groups = neuron_groups(mixture)
    seen: dict[int, list[Tensor]] = {number: [] for number in range(NUMBER)}
    experts = mixture.model.layers[0].mlp.experts
    for number, expert in enumerate(experts):
        expert.w2.register_forward_pre_hook(lambda _, args, number=number: seen[number].append(args[0].double()))
    statistics = collect(mixture, blocks_of(ids), groups=groups, progress=False)
    for number in range(NUMBER):
        moments = statistics[f"model.layers.0.mlp.experts.{number}.w2"]
        rows = torch.cat(seen[number]) if seen[number] else torch.zeros(0, 12, dtype=torch.float64)
        assert moments.count == ids.numel()
        assert moments.routed is not None
        assert moments.routed.tolist() == [len(rows)]
        assert torch.allclose(moments.square, (rows**2).sum(0), rtol=1e-5)


def test_an_expert_that_no_token_reached_has_moments_and_gradients_of_zero(mixture, ids, blocks_of, caplog):
    for layer in mixture.model.layers:
        layer.mlp.gate.weight.data.zero_()  # Equal scores: two experts get all tokens.
    groups = neuron_groups(mixture)
    statistics = collect(mixture, blocks_of(ids), groups=groups, progress=False)
    saliency = collect_saliency(mixture, blocks_of(ids), groups=groups, progress=False)
    idle = [name for name, moments in statistics.items() if moments.routed is not None and not moments.routed.any()]
    assert len(idle) == 2 * (NUMBER - 2)
    assert f"`{idle[0]}`" in caplog.text
    for name in idle:
        assert not statistics[name].square.any()
        assert not saliency[name].absolute.any()


def test_tokens_that_do_not_count_are_refused_where_nobody_knows_which_expert_saw_them(mixture, ids, blocks_of):
    counted = torch.ones_like(ids, dtype=torch.bool)
    counted[:, 0] = False
    with pytest.raises(StatisticsError, match="Experts that are a module each do not tell which tokens they see"):
        collect(mixture, blocks_of(ids, counted=counted), progress=False)
