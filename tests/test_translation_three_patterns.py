"""The regions that data visits are indexed exactly, and no others are claimed to be known."""

import itertools

import pytest
import torch
from accelerate import Accelerator, debug_launcher
from accelerate.state import AcceleratorState
from torch import nn
from transformers import OPTConfig, OPTForCausalLM, T5Config, T5ForConditionalGeneration

from hf_untangle.errors import ArchitectureError, StatisticsError, TranslationError
from hf_untangle.translation.three_layers.enumeration import enumerate_regions
from hf_untangle.translation.three_layers.module_inputs import module_inputs
from hf_untangle.translation.three_layers.network import activation_pattern, local_model
from hf_untangle.translation.three_layers.patterns import hashed, index_patterns, pack, unpack
from hf_untangle.translation.three_layers.read_network import read_network


def mlp(*widths: int) -> nn.Sequential:
    """A seeded ReLU network in float64."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    return nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()


def points(count: int, inputs: int = 4, seed: int = 1) -> torch.Tensor:
    """Seeded points."""
    return torch.randn(count, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def equal(one, other) -> bool:
    """Two indices hold the same."""
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("hashes", "packed", "counts"))


@pytest.mark.parametrize("neurons", [1, 8, 63, 64, 65, 200])
def test_packed_patterns_are_unpacked_again(neurons):
    patterns = torch.rand(50, neurons) > 0.5
    packed = pack(patterns)
    assert packed.shape[1] % 8 == 0 and torch.equal(unpack(packed, neurons), patterns)


def test_the_first_neuron_is_the_lowest_bit():
    assert pack(torch.tensor([[True, False, True]]))[0].tolist() == [5, 0, 0, 0, 0, 0, 0, 0]


def test_patterns_that_differ_in_one_or_two_bits_have_different_hashes():
    one = torch.eye(256).bool()
    two = one[:, None] ^ one[None]
    patterns = torch.cat([one, two[torch.ones(256, 256).triu(1).bool()]])
    assert len(hashed(pack(patterns)).unique()) == len(patterns) == 256 * 257 // 2


def test_each_point_is_found_in_its_pattern():
    module, x = mlp(4, 20, 20, 2), points(500)
    index = index_patterns(module, [x])
    region = index.locate(x)
    patterns = torch.stack([index.pattern(int(number)) for number in region])
    assert torch.equal(patterns, activation_pattern(index.network, x))
    assert torch.equal(region.bincount(minlength=len(index)), index.counts)


def test_the_stored_models_are_the_network():
    module, x = mlp(4, 20, 20, 2), points(300)
    index = index_patterns(module, [x])
    torch.testing.assert_close(index(x), module(x).detach())
    model = index.local_model(int(index.locate(x[:1])))
    torch.testing.assert_close(model, local_model(index.network, activation_pattern(index.network, x[:1])[0]))


def test_an_unknown_region_says_so():
    index = index_patterns(mlp(4, 30, 30, 2), [points(50)])
    x = torch.cat([points(50)[:2], points(3, seed=9) * 50])
    assert index.locate(x).tolist()[2:] == [-1, -1, -1] and index.coverage(x) == 0.4
    with pytest.raises(TranslationError, match="3 of 5 points lie in unknown regions, the first of them at position 2"):
        index(x)


def test_more_data_covers_more_and_known_data_is_covered():
    module, held_out = mlp(4, 12, 1), points(1000, seed=7)
    few, many = (index_patterns(module, [points(count)]) for count in (100, 1000))
    assert few.coverage(points(100)) == 1
    assert 0 < few.coverage(held_out) < many.coverage(held_out) < 1


def test_batches_do_not_matter():
    module, x = mlp(4, 20, 2), points(100)
    assert equal(index_patterns(module, [x]), index_patterns(module, x.flip(0).split(7)))


def test_a_data_set_visits_some_of_all_regions():
    module, x = mlp(2, 6, 6, 1), points(5000, inputs=2)
    regions = enumerate_regions(module, box=(-6, 6))
    index = index_patterns(module, [x])
    visited = regions.locate(x).unique()
    assert len(index) == len(visited) <= len(regions)
    assert torch.equal(index.locate(regions.points[visited]).sort()[0], torch.arange(len(index)))


def _index_a_share() -> None:
    """Index every second point in each of two processes."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)  # another test may have left its single process
    accelerator = Accelerator(cpu=True)
    module, x = mlp(4, 20, 2), points(101)
    mine = x[accelerator.process_index :: accelerator.num_processes]
    together = index_patterns(module, [mine], accelerator)
    assert accelerator.num_processes == 2 and equal(together, index_patterns(module, [x]))


def test_two_processes_index_what_one_indexes(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # accelerate warns when it has to choose
    debug_launcher(_index_a_share, num_processes=2)


def test_one_process_gathers_only_its_own():
    module, x = mlp(4, 20, 2), points(100)
    assert equal(index_patterns(module, [x], Accelerator(cpu=True)), index_patterns(module, [x]))


def test_the_index_is_made_in_the_dtype_of_the_network():
    network = read_network(mlp(4, 20, 2)).to(torch.float32)
    index = index_patterns(network, [points(50)])
    assert index.coverage(points(50)) == 1 and index(points(50)).dtype == torch.float32


def test_an_affine_network_has_one_region():
    index = index_patterns(nn.Linear(4, 2), [points(5)])
    assert len(index) == 1 and index.counts.tolist() == [5] and index.coverage(points(3, seed=2)) == 1


def test_no_data_is_refused():
    with pytest.raises(StatisticsError, match="No point was added"):
        index_patterns(mlp(4, 3, 1), [])


def test_patterns_that_share_a_hash_are_not_mixed_up(monkeypatch):
    monkeypatch.setattr("hf_untangle.translation.three_layers.patterns.hashed", lambda packed: packed[:, 0].long() * 0)
    with pytest.raises(StatisticsError, match="same 64-bit hash"):
        index_patterns(mlp(4, 3, 1), [points(50)])


def test_one_feed_forward_block_of_opt_is_indexed():
    torch.manual_seed(0)
    model = OPTForCausalLM(
        OPTConfig(
            vocab_size=50,
            hidden_size=8,
            ffn_dim=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            word_embed_proj_dim=8,
        )
    ).eval()
    batch = {
        "input_ids": torch.randint(3, 50, (4, 10)),
        "attention_mask": torch.ones(4, 10, dtype=torch.long),
    }
    batch["attention_mask"][0, :3] = 0
    layer = model.model.decoder.layers[1]
    (x,) = module_inputs(model, "model.decoder.layers.1.fc1", [batch])
    index = index_patterns(nn.Sequential(layer.fc1, layer.activation_fn, layer.fc2), [x])
    assert x.shape == (37, 8) and index.counts.sum() == 37
    torch.testing.assert_close(index(x).float(), layer.fc2(layer.activation_fn(layer.fc1(x))).detach())


def test_one_feed_forward_block_of_t5_is_indexed():
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=8, d_ff=16, d_kv=4, num_layers=1, num_heads=2)).eval()
    tokens = torch.randint(3, 50, (2, 6))
    name = "encoder.block.0.layer.1.DenseReluDense"
    (x,) = module_inputs(model, name, [{"input_ids": tokens, "decoder_input_ids": tokens}])
    index = index_patterns(model.get_submodule(name), [x])
    torch.testing.assert_close(index(x).float(), model.get_submodule(name)(x).detach())


def test_hooks_are_gone_even_if_the_model_fails():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(TypeError):
        list(module_inputs(model, "0", [{"x": torch.zeros(1, 2)}]))
    assert not model[0]._forward_pre_hooks


def test_a_module_that_is_not_there_is_refused():
    with pytest.raises(ArchitectureError, match="has no module `2`"):
        list(module_inputs(nn.Sequential(nn.Linear(2, 2)), "2", []))


def test_a_module_that_does_not_run_is_refused():
    model = nn.Sequential(nn.Linear(2, 2))
    model.unused = nn.Linear(2, 2)
    model.forward = lambda input: input
    with pytest.raises(ArchitectureError, match="`unused` did not run"):
        list(module_inputs(model, "unused", [{"input": torch.zeros(1, 2)}]))
