"""Entropy of neurons and heads of language models: bits above thresholds, attention weights, masks, the overview."""

import math

import pytest
import torch
from torch import Tensor

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.entropy.neuron_masks import entropy_mask, measure_neurons
from hf_untangle.entropy.neuron_record import NeuronEntropyConfig, NeuronRecord
from hf_untangle.entropy.overview import collect_entropy, drift, entropy_quantiles, overview
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.importance.entropy import entropy
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.head_entropy import collect_head_entropy, eager_attention, head_entropy
from hf_untangle.statistics.moments import MomentAccumulator, Moments
from hf_untangle.statistics.thresholded import collect_bits, quantile_thresholds


def moments_of(z: Tensor) -> Moments:
    accumulator = MomentAccumulator(z.shape[1], torch.device("cpu"))
    accumulator.update(z)
    return accumulator.result()


@pytest.fixture
def llama(tiny_model):
    return tiny_model("llama")


@pytest.fixture
def fine(llama):
    """In float32 sums of another order may move a bit that is zero up to rounding; in float64 none is."""
    return llama.double()


def test_bits_above_a_threshold_are_those_of_the_activations(llama, blocks):
    groups = neuron_groups(llama)
    seen = {}
    plain = collect(llama, blocks, groups=groups, progress=False)
    thresholds = mean_ablation(plain)
    statistics = collect_bits(llama, blocks, thresholds=thresholds, groups=groups, batch_size=6, progress=False)
    assert statistics.corpora[0]["bit"] == "above a threshold of each neuron"
    for name, moments in statistics.items():
        seen[name] = moments.positive / moments.count
        torch.testing.assert_close(moments.total, torch.zeros_like(moments.total), atol=1e-3, rtol=0)
    everything = torch.cat(list(seen.values()))
    assert 0.3 < float(everything.mean()) < 0.7


def test_thresholds_of_zero_give_the_plain_statistics(llama, blocks):
    groups = neuron_groups(llama)
    zeros = {group.name: torch.zeros(group.size) for group in groups}
    shifted = collect_bits(llama, blocks, thresholds=zeros, groups=groups, progress=False)
    for name, moments in collect(llama, blocks, groups=groups, progress=False).items():
        assert torch.equal(shifted[name].positive, moments.positive)
        torch.testing.assert_close(shifted[name].square, moments.square)


def test_in_a_single_batch_the_running_mean_is_the_mean(fine, blocks):
    groups = neuron_groups(fine)
    running = collect_bits(fine, blocks, groups=groups, batch_size=6, progress=False)
    fixed = mean_ablation(collect(fine, blocks, groups=groups, progress=False))
    known = collect_bits(fine, blocks, thresholds=fixed, groups=groups, batch_size=6, progress=False)
    assert running.corpora[0]["bit"] == "above the running mean"
    for name, moments in running.items():
        assert (moments.positive - known[name].positive).abs().max() <= 1


def test_the_running_mean_is_that_of_all_tokens_so_far(fine, blocks):
    groups = neuron_groups(fine)
    running = collect_bits(fine, blocks, groups=groups, batch_size=1, progress=False)
    expected = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in groups}
    for number, block in enumerate(blocks.batches(1), start=1):
        so_far = mean_ablation(collect(fine, blocks.first(number), groups=groups, progress=False))
        alone = collect_bits(fine, block, thresholds=so_far, groups=groups, progress=False)
        expected = {name: count + alone[name].positive for name, count in expected.items()}
    for name, moments in running.items():
        assert (moments.positive - expected[name]).abs().max() <= 1


def test_bits_are_saved_and_merged_as_other_statistics_are(llama, blocks, tmp_path):
    statistics = collect_bits(llama, blocks, progress=False)
    statistics.save(tmp_path / "bits.safetensors")
    loaded = ActivationStatistics.load(tmp_path / "bits.safetensors")
    assert loaded.corpora == statistics.corpora
    both = loaded + statistics
    for name, moments in statistics.items():
        torch.testing.assert_close(entropy(both[name]), entropy(moments), atol=0.02, rtol=0)


def test_a_group_without_thresholds_is_an_error(llama, blocks):
    groups = neuron_groups(llama)
    with pytest.raises(StatisticsError, match="has 32 neurons and 0 thresholds"):
        collect_bits(llama, blocks, thresholds={}, groups=groups, progress=False)
    with pytest.raises(StatisticsError, match="has 32 neurons and 3 thresholds"):
        collect_bits(llama, blocks, thresholds={groups[0].name: torch.zeros(3)}, groups=groups[:1], progress=False)


def test_half_of_the_tokens_are_above_the_median(llama, blocks):
    groups = neuron_groups(llama)
    medians = quantile_thresholds(llama, blocks, 0.5, groups=groups, batch_size=6, progress=False)
    statistics = collect_bits(llama, blocks, thresholds=medians, groups=groups, progress=False)
    for moments in statistics.values():
        assert ((moments.positive / moments.count - 0.5).abs() <= 0.02).all()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2])
def test_a_quantile_outside_of_0_to_1_is_an_error(llama, blocks, share):
    with pytest.raises(ConfigError, match=f"must lie between 0 and 1, got {share}"):
        quantile_thresholds(llama, blocks, share, progress=False)


def test_entropy_of_attention_weights_by_hand():
    weights = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.25, 0]])
    assert head_entropy(weights[None, None])[0, 0].tolist() == [0, 1, 2, 1.5]


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gpt_neox", "phi3", "gemma2"])
def test_head_entropies_are_those_of_the_weights_that_the_model_shows(tiny_model, blocks, family, untouched):
    model = tiny_model(family)
    with eager_attention(model), torch.no_grad():
        weights = model.base_model(blocks.input_ids, output_attentions=True).attentions
    with untouched(model):
        statistics = collect_head_entropy(model, blocks, batch_size=4, progress=False)
    assert len(statistics) == len(weights)
    for moments, one in zip(statistics.values(), weights, strict=True):
        reference = -torch.xlogy(one, one).sum(-1) / math.log(2)
        torch.testing.assert_close(moments.total, reference.sum((0, 2)).double(), rtol=1e-4, atol=1e-4)
        assert moments.count == 72


def test_a_head_that_looks_evenly_has_the_logarithm_of_the_positions(llama, blocks):
    with torch.no_grad():
        for name, parameter in llama.named_parameters():
            if "q_proj" in name:
                parameter.zero_()
    evenly = torch.arange(1, 13).log2().sum() * 6
    for moments in collect_head_entropy(llama, blocks, progress=False).values():
        torch.testing.assert_close(moments.total, evenly.double().expand(4), rtol=1e-5, atol=1e-4)


def test_padding_counts_for_nothing_in_head_entropy(llama, padded_blocks, blocks_of):
    first = blocks_of(padded_blocks.input_ids[3:4, :2])
    alone = collect_head_entropy(llama, first, progress=False)
    fourth = blocks_of(padded_blocks.input_ids[3:4], padded_blocks.attention_mask[3:4])
    for name, moments in collect_head_entropy(llama, fourth, progress=False).items():
        torch.testing.assert_close(moments.total, alone[name].total, rtol=1e-4, atol=1e-5)


def test_the_models_own_attention_comes_back_also_after_an_error(llama, blocks, monkeypatch):
    own = llama.config._attn_implementation
    monkeypatch.setattr("hf_untangle.statistics.head_entropy.head_entropy", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        collect_head_entropy(llama, blocks, progress=False)
    assert llama.config._attn_implementation == own
    assert not any(module._forward_hooks for module in llama.modules())


def test_attention_that_shows_no_weights_is_an_error(llama, blocks, monkeypatch):
    monkeypatch.setattr(llama, "set_attn_implementation", lambda _: None)
    with pytest.raises(StatisticsError, match="gives none with eager attention. Leave it out"):
        collect_head_entropy(llama, blocks, progress=False)


def test_the_overview_counts_what_is_always_on_and_off():
    z = torch.tensor([[1.0, -1.0, 1.0], [2.0, -1.0, -1.0]]).repeat(8, 1)
    (row,) = overview({"group": moments_of(z)})
    assert (row.neurons, row.always_on, row.always_off) == (3, 1, 1)
    assert (row.low, row.median, row.high) == (0, 0, 1)
    assert row.record()["group"] == "group"
    assert entropy_quantiles({"a": moments_of(z[:, :1]), "b": moments_of(z[:, 2:])}).tolist() == [0, 0, 0, 1, 1]


def test_drift_is_the_mean_distance_of_shares():
    here = {"a": moments_of(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))}
    there = {"a": moments_of(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))}
    assert drift(here, there) == pytest.approx(0.25)
    assert drift(here, here) == 0


def test_thresholds_are_chosen_by_name(llama, blocks):
    assert "bit" not in collect_entropy(llama, blocks, progress=False).corpora[0]
    assert collect_entropy(llama, blocks, "running mean", progress=False).corpora[0]["bit"] == "above the running mean"
    with pytest.raises(ConfigError, match="must be one of zero, running mean, got `median`"):
        collect_entropy(llama, blocks, "median", progress=False)


def test_a_planted_constant_neuron_is_the_first_to_go(llama, blocks):
    groups = neuron_groups(llama)
    statistics = dict(collect(llama, blocks, groups=groups, progress=False))
    ffn = next(group for group in groups if group.kind == "ffn")
    found = statistics[ffn.name]
    positive = torch.full_like(found.positive, 36)
    positive[5] = 72
    statistics[ffn.name] = Moments(found.count, found.total, found.absolute, found.square, positive)
    everything = NeuronMask.keep_all(groups, "tiny")
    bottom, top = (entropy_mask(everything, statistics, groups, 1 / 48, order) for order in ("bottom", "top"))
    assert (~bottom[ffn.name]).nonzero().flatten().tolist() == [5]
    assert top[ffn.name][5] and top.removed() == bottom.removed() == 2


def test_a_mask_goes_on_from_what_is_masked_already(llama, blocks):
    groups = neuron_groups(llama)
    statistics = collect(llama, blocks, groups=groups, progress=False)
    once = entropy_mask(NeuronMask.keep_all(groups, "tiny"), statistics, groups, 0.25)
    twice = entropy_mask(once, statistics, groups, 0.25)
    assert (once.removed(), twice.removed()) == (24, 48)
    assert twice & once == twice


SMALL = NeuronEntropyConfig(shares=(0.25,), seeds=2, tokens=24, evaluation_tokens=24, block_size=12, batch_size=2)


def test_the_experiment_measures_what_a_mask_with_mean_ablation_costs(llama, blocks, untouched):
    with untouched(llama):
        record = measure_neurons(llama, blocks, {"near": blocks, "far": blocks.first(2)}, SMALL, progress=False)
    assert len(record.cells) == 2 * 3 * 2
    groups = neuron_groups(llama)
    part = next(blocks.batches(3))
    statistics = collect(llama, part, groups=groups, progress=False)
    mask = entropy_mask(NeuronMask.keep_all(groups, ""), statistics, groups, 0.25)
    with masked(llama, mask, constants=mean_ablation(statistics)):
        expected = next_token_metrics(llama, blocks, progress=False)
    cell = record.cells[0]
    assert (cell.seed, cell.set, cell.order, cell.masked) == (0, "near", "bottom", 24)
    assert cell.after.loss == pytest.approx(expected.loss, rel=1e-6)
    assert record.changes("near", "bottom", 0.25)[0] == cell.change == cell.after.top1 - cell.before.top1
    assert NeuronRecord.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("share", [0.0, 0.01, 1.5])
def test_a_share_of_no_neuron_is_an_error(llama, blocks, share):
    settings = SMALL.model_copy(update={"shares": (share,)})
    with pytest.raises(ConfigError, match=f"{share:g} of 48 ffn neurons is none"):
        measure_neurons(llama, blocks, {"near": blocks}, settings, progress=False)


def test_more_seeds_than_blocks_are_an_error(llama, blocks):
    with pytest.raises(ConfigError, match="got 8 seeds and 6 blocks"):
        measure_neurons(llama, blocks, {"near": blocks}, SMALL.model_copy(update={"seeds": 8}), progress=False)
