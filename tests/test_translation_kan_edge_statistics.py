"""What edges do on data, gathered in one pass; strong edges, weak edges, and exact explanations."""

from itertools import combinations
from math import comb

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM, T5Config, T5ForConditionalGeneration

from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, KANLayer
from hf_untangle.translation.kan.convert import to_kan_
from hf_untangle.translation.kan.edge_statistics import (
    EdgeMoments,
    EdgeStatistics,
    collect_edge_statistics,
    combine_statistics,
)
from hf_untangle.translation.kan.edges import (
    StrongEdge,
    edge_strengths,
    prune_edges_,
    shap_values,
    strongest_edges,
)
from hf_untangle.translation.kan.piecewise_linear_layer import random_kan_layer


def activated(activation: nn.Module | None = None) -> ActivationKANLayer:
    torch.manual_seed(0)
    return ActivationKANLayer(nn.Linear(5, 3).double(), activation or nn.ReLU())


def with_own_edges() -> KANLayer:
    torch.manual_seed(0)
    return random_kan_layer(5, 3, torch.linspace(-2, 2, 6).double())


LAYERS = [activated, with_own_edges, lambda: activated(nn.GELU())]


def points(tokens: int = 300) -> Tensor:
    x = torch.randn(tokens, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x @ torch.linspace(-1, 1, 25).double().reshape(5, 5)  # correlated


def statistics_of(layer: KANLayer, *batches: Tensor) -> EdgeStatistics:
    moments = EdgeMoments(layer)
    for batch in batches or [points()]:
        moments.update(batch)
    return moments.result()


def assert_same(one: EdgeStatistics, other: EdgeStatistics) -> None:
    assert one.tokens == other.tokens
    for name in ("mean", "mean_abs", "mean_square"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", LAYERS)
def test_batches_one_by_one_equal_all_at_once(make: object):
    layer, x = make(), points()
    assert_same(statistics_of(layer, x[:7], x[7:200], x[200:].reshape(2, 50, 5)), statistics_of(layer, x))


@pytest.mark.parametrize("make", LAYERS)
def test_processes_together_equal_one(make: object):
    layer, x = make(), points()
    parts = [statistics_of(layer, x[:90]), statistics_of(layer, x[90:])]
    assert_same(combine_statistics(parts), statistics_of(layer, x))


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_strength_of_an_edge_is_the_mean_of_what_it_gives(make: object, norm: str):
    layer, x = make(), points()
    given = layer.edge_outputs(x)
    expected = given.abs().mean(0) if norm == "l1" else given.square().mean(0).sqrt()
    torch.testing.assert_close(edge_strengths(layer, statistics_of(layer), norm), expected)


def test_the_strength_of_a_scaled_activation_is_activation_times_weight():
    """Wanda's score: |weight| times the norm of what it multiplies, but for the number of tokens."""
    layer, x = activated(), points()
    wanda = layer.weight.abs() * x.relu().norm(dim=0)
    torch.testing.assert_close(edge_strengths(layer, statistics_of(layer), "l2") * 300**0.5, wanda.detach())


def test_statistics_of_scaled_activations_do_not_grow_with_the_outputs():
    assert statistics_of(activated()).mean.shape == (1, 5)
    assert statistics_of(with_own_edges()).mean.shape == (3, 5)


def test_the_strongest_edges_by_hand():
    layer = ActivationKANLayer(nn.Linear(2, 2, bias=False), nn.ReLU())
    layer.weight.data = torch.tensor([[1.0, -3.0], [0.5, 1.5]])
    statistics = statistics_of(layer, torch.tensor([[4.0, 1.0], [-4.0, 1.0]]))  # mean activations 2 and 1
    by_hand = [StrongEdge(0, 1, 3.0), StrongEdge(0, 0, 2.0), StrongEdge(1, 1, 1.5)]
    assert strongest_edges(layer, statistics, 3) == by_hand
    assert len(strongest_edges(layer, statistics, 99)) == 4


@pytest.mark.parametrize("make", LAYERS)
def test_pruning_cuts_the_weakest_edges_of_every_output(make: object):
    layer, x = make(), points()
    strengths = edge_strengths(layer, statistics_of(layer), "l2")
    pruned = prune_edges_(layer, statistics_of(layer), 0.4)
    assert pruned is layer
    cut = (layer.edge_outputs(x) == 0).all(0)
    assert torch.equal(cut, strengths <= strengths.sort(1).values[:, 1:2])


def test_pruning_nothing_changes_nothing():
    layer = activated()
    before = layer.weight.clone()
    prune_edges_(layer, statistics_of(layer), 0.19)
    assert torch.equal(layer.weight, before)


def shapley_by_definition(layer: KANLayer, x: Tensor, background: Tensor, direction: Tensor) -> Tensor:
    """The average gain from telling the value of a node, over all orders in which values can be told."""
    n = len(x)

    def expected(known: tuple[int, ...]) -> float:
        mixed = background.clone()
        mixed[:, list(known)] = x[list(known)]
        return (layer(mixed) @ direction).mean().item()

    values = []
    for i in range(n):
        others = [k for k in range(n) if k != i]
        subsets = [subset for size in range(n) for subset in combinations(others, size)]
        gains = [(expected((*s, i)) - expected(s)) / (n * comb(n - 1, len(s))) for s in subsets]
        values.append(sum(gains))
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("make", LAYERS)
def test_shap_values_are_shapley_values(make: object):
    layer, background, x = make(), points(20), points()[-1]
    direction = torch.tensor([1.0, -2.0, 0.5]).double()
    values = shap_values(layer, x, statistics_of(layer, background), direction)
    reference = shapley_by_definition(layer, x, background, direction)
    torch.testing.assert_close(values.detach(), reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", LAYERS)
def test_shap_values_sum_to_the_output_less_its_average(make: object):
    layer, x = make(), points()
    one_hot = torch.tensor([0.0, 1.0, 0.0]).double()
    sums = shap_values(layer, x.reshape(3, 100, 5), statistics_of(layer), one_hot).sum(-1).flatten()
    torch.testing.assert_close(sums, (layer(x) - layer(x).mean(0))[:, 1], rtol=0, atol=1e-12)


def opt() -> OPTForCausalLM:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 64,
        "hidden_size": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    return OPTForCausalLM(OPTConfig(**sizes, max_position_embeddings=32, word_embed_proj_dim=16)).eval()


def test_statistics_of_a_model_are_those_of_its_neurons():
    model = opt()
    ids = torch.randint(0, 64, (2, 9))
    fc2 = model.model.decoder.layers[1].fc2
    seen: list[Tensor] = []
    with fc2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])), torch.no_grad():
        model(input_ids=ids)
    statistics = collect_edge_statistics(to_kan_(model), [{"input_ids": ids}])
    assert len(statistics) == 4
    expected = seen[0].double().mean(0, keepdim=True)
    torch.testing.assert_close(statistics["model.decoder.layers.1.fc2"].mean, expected)


def test_padding_does_not_count():
    model = to_kan_(opt())
    ids = torch.randint(0, 64, (1, 9))
    padded = {
        "input_ids": torch.cat([ids, torch.ones(1, 4, dtype=torch.long)], 1),
        "attention_mask": torch.tensor([[1] * 9 + [0] * 4]),
    }
    alone, with_padding = (collect_edge_statistics(model, [b]) for b in ({"input_ids": ids}, padded))
    for name, statistics in alone.items():
        assert with_padding[name].tokens == statistics.tokens == 9
        torch.testing.assert_close(with_padding[name].mean_abs, statistics.mean_abs)


def test_encoder_and_decoder_have_their_own_masks():
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    model = to_kan_(T5ForConditionalGeneration(T5Config(**sizes)))
    batch = {
        "input_ids": torch.randint(0, 64, (1, 6)),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]]),
        "decoder_input_ids": torch.randint(0, 64, (1, 6)),
        "decoder_attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]]),
    }
    tokens = {name.split(".")[0]: s.tokens for name, s in collect_edge_statistics(model, [batch]).items()}
    assert tokens == {"encoder": 4, "decoder": 5}


def test_no_hook_stays_behind_when_a_batch_fails():
    model = to_kan_(opt()).train()
    with pytest.raises(ValueError, match="exactly one of input_ids"):
        collect_edge_statistics(model, [{"use_cache": False}])
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert model.training


def test_a_mask_of_another_length_is_refused():
    moments = EdgeMoments(activated())
    model = nn.Sequential(moments.layer)
    model.forward = lambda x, attention_mask: moments.layer(x)
    with pytest.raises(StatisticsError, match="The attention mask has 4 positions, but a layer reads 6 tokens"):
        collect_edge_statistics(model, [{"x": points(6), "attention_mask": torch.ones(4)}])


def test_what_has_no_statistics_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # to see what a user sees
    layer = activated()
    with pytest.raises(StatisticsError, match="No tokens reached this layer"):
        EdgeMoments(layer).result()
    with pytest.raises(StatisticsError, match="gave an infinity or a NaN"):
        statistics_of(layer, points() * float("nan"))
    with pytest.raises(StatisticsError, match="There are no KAN layers in this OPTForCausalLM. Call to_kan_"):
        collect_edge_statistics(opt(), [])
    with pytest.raises(StatisticsError, match=r"of shape \(3, 5\) do not belong to ActivationKANLayer"):
        edge_strengths(layer, statistics_of(with_own_edges()))
    with pytest.raises(StatisticsError, match="Only statistics of one layer can be joined, got 2 of different"):
        combine_statistics([statistics_of(layer), statistics_of(with_own_edges())])
    with pytest.raises(ConfigError, match="is l1 or l2, got 'l3'"):
        edge_strengths(layer, statistics_of(layer), "l3")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="between 0 and 1, got 2.0"):
        prune_edges_(layer, statistics_of(layer), 2.0)
