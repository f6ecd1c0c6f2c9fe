"""Streaming sums over tokens: what they are, and that nothing about how a corpus is cut changes them."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.errors import StatisticsError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.pruning.step import Evidence, Pair, remove_next
from hf_untangle.statistics.accumulators import observed
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.moments import MomentAccumulator, Moments, pieces

CPU = torch.device("cpu")


def accumulated(*batches: Tensor, roots: bool = True) -> Moments:
    accumulator = MomentAccumulator(batches[0].shape[1], CPU, roots=roots)
    for batch in batches:
        accumulator.update(batch)
    return accumulator.result()


def reference(z: Tensor) -> Moments:
    z = z.double()
    sums = (z.sum(0), z.abs().sum(0), z.square().sum(0), (z > 0).double().sum(0), z.abs().sqrt().sum(0))
    return Moments(torch.tensor(len(z)), *sums, spread=(z - z.mean(0)).square().sum(0))


def assert_close(mine: Moments, theirs: Moments) -> None:
    assert mine.tensors().keys() == theirs.tensors().keys()
    for name, value in mine.tensors().items():
        torch.testing.assert_close(value, theirs.tensors()[name], rtol=1e-5, atol=1e-5)


def assert_all_close(mine: ActivationStatistics, theirs: ActivationStatistics) -> None:
    assert list(mine) == list(theirs)
    for name, moments in mine.items():
        assert_close(moments, theirs[name])


def activations(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    groups = neuron_groups(model)
    with observed(model, groups, lambda group, z: seen.update({group.name: z.values.flatten(0, -2)})), torch.no_grad():
        model(ids)
    return seen


def test_sums_of_three_tokens_by_hand():
    moments = accumulated(torch.tensor([[1.0, -4.0], [4.0, 0.0]]), torch.tensor([[0.0, 9.0]]))
    assert moments.count == 3
    assert moments.total.tolist() == [5, 5]
    assert moments.absolute.tolist() == [5, 13]
    assert moments.square.tolist() == [17, 97]
    assert moments.positive.tolist() == [2, 1]
    assert moments.root is not None and moments.root.tolist() == [3, 5]
    torch.testing.assert_close(moments.variance, torch.tensor([26 / 9, 266 / 9], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sums_are_the_formulas_on_random_activations(dtype):
    z = torch.randn(500, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert_close(accumulated(*z.split(64)), reference(z))


def test_sums_in_bfloat16_do_not_saturate():
    assert accumulated(torch.ones(1000, 1, dtype=torch.bfloat16)).total == 1000


def test_totals_are_in_float64_so_that_small_batches_still_count_after_large_ones():
    large = torch.full((1, 2), 2.0**24)
    moments = accumulated(large, *[torch.ones(1, 2)] * 100)
    assert moments.total.tolist() == [2**24 + 100] * 2
    assert moments.square.tolist() == [2**48 + 100] * 2
    assert torch.tensor(2.0**24) + 1 == 2**24, "float32 would have lost every one of them"


def test_a_result_does_not_change_when_more_tokens_come():
    accumulator = MomentAccumulator(2, CPU)
    accumulator.update(torch.ones(1, 2))
    first = accumulator.result()
    accumulator.update(torch.ones(1, 2))
    assert (first.count, first.total.tolist()) == (1, [1, 1])
    assert accumulator.result().count == 2


def test_roots_are_summed_only_when_asked_for_and_missing_ones_stay_missing():
    with_roots, without = accumulated(torch.ones(1, 2)), accumulated(torch.ones(1, 2), roots=False)
    assert without.root is None
    assert (with_roots + without).root is None
    assert (with_roots + with_roots).root is not None


FAR = [(1.0, 0.1), (-1e3, 0.1), (1e4, 0.1), (1e5, 3.0)]


def far(tokens: int = 6000, dtype: torch.dtype = torch.float32) -> Tensor:
    """Neurons whose mean is up to 100,000 times their standard deviation, in an order that drifts."""
    z = torch.randn(tokens, len(FAR), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (torch.tensor([mean for mean, _ in FAR]) + z.sort(0).values * torch.tensor([sd for _, sd in FAR])).to(dtype)


@pytest.mark.parametrize("size", [1, 7, 500, 6000])
def test_a_standard_deviation_keeps_its_digits_where_the_mean_is_large(size):
    z = far()
    expected = z.double().var(0, unbiased=False)
    torch.testing.assert_close(accumulated(*z.split(size)).variance, expected, rtol=1e-3, atol=0)


def test_in_float64_it_keeps_them_where_float32_has_none():
    z = 1e9 + far(dtype=torch.float64)
    torch.testing.assert_close(accumulated(*z.split(500)).variance, z.var(0, unbiased=False), rtol=1e-4, atol=0)


def test_an_outlier_in_the_first_batch_does_not_spoil_it():
    z = far()
    z[0] = 3e5
    expected = z.double().var(0, unbiased=False)
    torch.testing.assert_close(accumulated(*z.split(500)).variance, expected, rtol=1e-3, atol=0)


def test_spreads_of_parts_are_merged_exactly_wherever_the_parts_come_together():
    z = far()
    parts = [accumulated(part, roots=False) for part in z.split([1, 2000, 17, 3982])]
    mine, other = MomentAccumulator(len(FAR), CPU), MomentAccumulator(len(FAR), CPU)
    mine.update(z[:2500])
    other.update(z[2500:])
    mine.absorb(other)
    expected = z.double().var(0, unbiased=False)
    for merged in (sum(parts[1:], start=parts[0]), sum(parts[:-1], start=parts[-1]), mine.result()):
        torch.testing.assert_close(merged.variance, expected, rtol=1e-3, atol=0)


def test_an_expert_is_zero_at_the_tokens_that_it_does_not_see():
    seen, tokens = 1e4 + torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), 100
    accumulator = MomentAccumulator(4, CPU, experts=2)
    for part in seen.split(15):
        accumulator.update(part, slice(2, 4))
    accumulator.update(seen[:0], slice(0, 2))
    moments = accumulator.result(tokens)
    with_zeros = torch.cat([seen.double(), torch.zeros(tokens - len(seen), 2)])
    torch.testing.assert_close(moments.variance[2:], with_zeros.var(0, unbiased=False))
    torch.testing.assert_close(moments.squared_deviations[2:] / 40, seen.double().var(0, unbiased=False), rtol=1e-4, atol=0)
    assert moments.variance[:2].tolist() == [0, 0]
    torch.testing.assert_close((moments + moments).variance, moments.variance)


def test_sums_that_were_stored_without_a_spread_still_give_one_and_merge():
    z = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    old = replace(accumulated(z), spread=None)
    expected = z.double().var(0, unbiased=False)
    torch.testing.assert_close(old.variance, expected, rtol=1e-5, atol=0)
    assert (old + old).spread is None
    torch.testing.assert_close((old + accumulated(z)).variance, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("tokens", "neurons"), [(0, 3), (5, 0), (0, 0)])
def test_no_tokens_and_no_neurons_add_nothing(tokens, neurons):
    moments = accumulated(torch.ones(tokens, neurons))
    assert (int(moments.count), moments.total.tolist()) == (tokens, [0] * neurons)


def test_collected_sums_are_those_of_the_activations(model, blocks):
    statistics = collect(model, blocks, roots=True, progress=False)
    assert statistics.tokens == 72
    for name, z in activations(model, blocks.input_ids).items():
        assert_close(statistics[name], reference(z))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_batched_equals_all_at_once(model, blocks, batch_size):
    groups = neuron_groups(model)
    together = collect(model, blocks, groups=groups, batch_size=6, progress=False)
    assert_all_close(collect(model, blocks, groups=groups, batch_size=batch_size, progress=False), together)


def test_the_order_of_blocks_does_not_matter(model, blocks, blocks_of):
    shuffled = blocks_of(blocks.input_ids[[3, 0, 5, 1, 4, 2]])
    groups = neuron_groups(model)
    mine = collect(model, shuffled, groups=groups, batch_size=4, progress=False)
    assert_all_close(mine, collect(model, blocks, groups=groups, batch_size=4, progress=False))


def test_padding_counts_for_nothing(model, padded_blocks, blocks_of):
    groups = neuron_groups(model)
    rows = zip(padded_blocks.input_ids, padded_blocks.attention_mask, strict=True)
    alone = [collect(model, blocks_of(ids[kept][None]), groups=groups, progress=False) for ids, kept in rows]
    together = collect(model, padded_blocks, groups=groups, batch_size=4, progress=False)
    assert_all_close(together, sum(alone[1:], start=alone[0]))
    assert together.tokens == 12 + 9 + 5 + 2 + 7 + 12


def test_merged_halves_equal_the_whole(model, blocks, blocks_of):
    groups = neuron_groups(model)
    first, second = (collect(model, blocks_of(half), groups=groups, progress=False) for half in blocks.input_ids.split(3))
    whole = collect(model, blocks, groups=groups, progress=False)
    assert_all_close(first + second, whole)
    assert (first + second).corpora == first.corpora + second.corpora


def test_positions_that_do_not_count_are_seen_but_not_summed(model, blocks, blocks_of):
    counted = torch.ones(6, 12, dtype=torch.bool)
    counted[:, 0] = False
    statistics = collect(model, blocks_of(blocks.input_ids, counted=counted), roots=True, progress=False)
    for name, z in activations(model, blocks.input_ids).items():
        assert_close(statistics[name], reference(z.view(6, 12, -1)[:, 1:].flatten(0, 1)))


def test_removed_neurons_read_zero(model, blocks):
    groups = neuron_groups(model)
    kept = {group.name: torch.arange(group.size) % 3 > 0 for group in groups}
    mask = NeuronMask.keep_all(groups, "").with_kept(kept)
    with masked(model, mask):
        statistics = collect(model, blocks, progress=False)
    for name, moments in statistics.items():
        assert not moments.absolute[~kept[name]].any()
        assert moments.absolute[kept[name]].any()


def test_collecting_leaves_the_model_as_it_was(model, blocks, untouched):
    model.train()
    next(model.children()).eval()
    with untouched(model):
        collect(model, blocks, progress=False)


def test_an_interruption_in_the_middle_of_a_pass_leaves_the_model_as_it_was(model, blocks, untouched, monkeypatch):
    groups = neuron_groups(model)
    monkeypatch.setattr(MomentAccumulator, "update", interrupt_on_call(3))
    with untouched(model), pytest.raises(KeyboardInterrupt):
        collect(model, blocks, groups=groups, progress=False)


def interrupt_on_call(number: int):
    calls = iter(range(1, number))

    def update(*_: object) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    return update


def test_a_hook_that_cannot_be_placed_leaves_none_behind(tiny_model, untouched):
    model = tiny_model("llama")
    groups = (*neuron_groups(model), NeuronGroup("nowhere", "ffn", 0, 4, ()))
    with untouched(model), pytest.raises(AttributeError), observed(model, groups, print):
        pass


@pytest.mark.parametrize("with_dropout", ["gpt2", "opt"])
def test_a_model_in_training_is_watched_as_it_runs_in_earnest(tiny_model, blocks, with_dropout):
    expected = collect(tiny_model(with_dropout), blocks, progress=False)
    assert_all_close(collect(tiny_model(with_dropout).train(), blocks, progress=False), expected)


def test_statistics_say_what_they_are_of(tiny_model, blocks):
    statistics = collect(tiny_model("llama").bfloat16(), blocks, progress=False)
    assert (statistics.model, statistics.revision, statistics.dtype) == ("tiny-llama", None, "bfloat16")
    assert statistics.corpora == (blocks.record(),)
    assert len(statistics) == 4


def test_a_group_that_the_model_does_not_run_is_an_error(tiny_model, blocks):
    model = tiny_model("llama")
    idle = NeuronGroup("lm_head", "ffn", 0, 32, ())
    with pytest.raises(StatisticsError, match="must see tokens, but `lm_head` saw none.*Leave it out with `groups=`"):
        collect(model, blocks, groups=(idle,), progress=False)


def test_a_corpus_of_which_no_token_counts_is_an_error(tiny_model, blocks, blocks_of):
    none = blocks_of(blocks.input_ids, counted=torch.zeros(6, 12, dtype=torch.bool))
    with pytest.raises(StatisticsError, match="must see tokens, but `model.layers.0.self_attn.o_proj` saw none"):
        collect(tiny_model("llama"), none, progress=False)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_activations_that_are_not_finite_are_an_error(model, blocks, bad):
    with torch.no_grad():
        model.get_input_embeddings().weight[blocks.input_ids[2, 5]] = bad
    with pytest.raises(StatisticsError, match="must be finite, but those of .* hold NaN or infinity. Load the model in"):
        collect(model, blocks, progress=False)


def made(order: tuple[str, ...] = ("layers.2", "layers.10"), roots: bool = True, model: str = "m") -> ActivationStatistics:
    moments = {name: accumulated(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), roots=roots) for name in order}
    return ActivationStatistics(moments, model, "abc", "float32", ({"corpus": "code", "tokens": 5},))


@pytest.mark.parametrize("roots", [True, False])
def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, roots):
    saved = made(roots=roots)
    saved.save(tmp_path / "deep" / "statistics.safetensors")
    loaded = ActivationStatistics.load(tmp_path / "deep" / "statistics.safetensors")
    assert (loaded.model, loaded.revision, loaded.dtype, loaded.corpora) == ("m", "abc", "float32", saved.corpora)
    for name, moments in saved.items():
        assert loaded[name].tensors().keys() == moments.tensors().keys()
        for field, value in moments.tensors().items():
            assert torch.equal(loaded[name].tensors()[field], value)
            assert loaded[name].tensors()[field].dtype == value.dtype


def test_loaded_groups_come_in_the_order_in_which_they_run(tmp_path):
    made().save(tmp_path / "statistics.safetensors")
    assert list(ActivationStatistics.load(tmp_path / "statistics.safetensors")) == ["layers.2", "layers.10"]


def test_statistics_of_different_models_cannot_be_merged():
    with pytest.raises(StatisticsError, match="these are of `m` and `other`. Collect both on one model"):
        made() + made(model="other")
    with pytest.raises(StatisticsError, match="Only statistics of the same model can be merged"):
        made() + made(order=("layers.2",))


def test_a_file_that_is_not_ours_is_an_error(tmp_path):
    (tmp_path / "text").write_text("none")
    save_file({"a": torch.ones(1)}, tmp_path / "plain", metadata={"format": "pt"})
    NeuronMask({"a": torch.ones(1, dtype=torch.bool)}, {"a": "ffn"}, "m").save(tmp_path / "mask")
    for name, message in {
        "text": "must hold statistics, got 4 bytes that are no safetensors file",
        "missing": "cannot be opened .No such file",
        "plain": "must hold statistics, got a file whose format is `pt`",
        "mask": "format is `hf_untangle.mask/1` and not hf_untangle.statistics/1",
    }.items():
        with pytest.raises(StatisticsError, match=message):
            ActivationStatistics.load(tmp_path / name)


@pytest.mark.parametrize(("neurons", "tokens"), [(1, 131_072), (1536, 85), (200_000, 1)])
def test_a_cpu_sums_as_many_tokens_at_a_time_as_its_cache_holds(neurons, tokens):
    assert len(pieces(torch.empty(tokens + 1, neurons, device="meta"))) == 1
    assert len(pieces(torch.empty(1).expand(tokens + 1, neurons))[0]) == tokens


def wider(blocks: TokenBlocks, positions: int) -> TokenBlocks:
    return replace(
        blocks,
        input_ids=F.pad(blocks.input_ids, (0, positions), value=257),
        attention_mask=F.pad(blocks.attention_mask, (0, positions)),
        counted=F.pad(blocks.counted, (0, positions)),
    )


@pytest.fixture(scope="module")
def cuts(pairs) -> dict[str, tuple[Pair, int]]:
    """The same packed blocks, cut, padded and ordered in other ways."""
    train = pairs[0]
    backwards = Pair(*(one.rows(torch.arange(len(one.input_ids)).flip(0)) for one in (train.forget, train.retain)))
    return {
        "one at a time": (train, 1),
        "batches with a short last one": (train, 5),
        "padded": (Pair(wider(train.forget, 9), wider(train.retain, 3)), 8),
        "backwards": (backwards, 7),
    }


def first_mask(model: nn.Module, train: Pair, batch_size: int) -> NeuronMask:
    """What is removed first, by activations alone."""
    groups = neuron_groups(model)
    config = UnlearnConfig(candidates=1, ffn_fraction=0.1, attention_fraction=0.1)
    how = {"groups": groups, "batch_size": batch_size, "progress": False}
    evidence = Evidence(collect(model, train.forget, **how), collect(model, train.retain, **how), {}, {})
    return remove_next(NeuronMask.keep_all(groups, ""), evidence, groups, config)


@pytest.mark.parametrize("cut", ["one at a time", "batches with a short last one", "padded", "backwards"])
def test_however_blocks_are_cut_padded_or_ordered_the_same_neurons_go(taught, pairs, cuts, cut):
    whole = first_mask(taught, pairs[0], 64)
    assert whole.removed() > 0
    assert first_mask(taught, *cuts[cut]) == whole


def test_in_bfloat16_every_rms_is_within_two_percent_of_its_group_and_the_masks_agree(taught, pairs, cuts):
    half = deepcopy(taught).bfloat16()
    retain = pairs[0].retain
    exact, rough = (collect(model, retain, progress=False) for model in (taught, half))
    for name, moments in exact.items():
        expected, found = ((one.square / one.count).sqrt() for one in (moments, rough[name]))
        assert (found - expected).abs().max() < 0.02 * expected.max()
    mask, wanted = first_mask(half, pairs[0], 64), first_mask(taught, pairs[0], 64)
    both = sum(int((~kept & ~wanted[name]).sum()) for name, kept in mask.items())
    assert both >= 0.9 * wanted.removed()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_are_as_exact_under_autocast(tiny_model, dtype):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    seen: dict[str, list[torch.Tensor]] = {}
    sums = {group.name: MomentAccumulator(group.size, torch.device("cpu"), roots=True) for group in groups}

    def add(group, reading):
        rows = reading.values.detach().flatten(0, -2)
        seen.setdefault(group.name, []).append(rows.double())
        sums[group.name].update(rows)

    ids = torch.arange(96).view(4, 24) % 50
    with torch.no_grad(), torch.autocast("cpu", dtype), observed(model, groups, add):
        model(ids)
        assert torch.is_autocast_enabled("cpu"), "the model itself runs under it"
    for name, rows in seen.items():
        assert_close(sums[name].result(), reference(torch.cat(rows)))
