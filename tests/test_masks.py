"""Masks: sets of neurons that stay, and trying them out without writing to a weight."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.projections import input_axis, weight_of
from hf_untangle.compaction.compact import compact
from hf_untangle.errors import MaskError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.mask_path import load_mask_path, save_mask_path
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.select import random_like
from hf_untangle.statistics.activation_statistics import ActivationStatistics


def mask_of(attention: str, ffn: str, model: str = "m") -> NeuronMask:
    """A mask of two groups, written as `1` for kept and `0` for removed."""
    kept = {"o_proj": torch.tensor([one == "1" for one in attention]), "down_proj": torch.tensor([one == "1" for one in ffn])}
    return NeuronMask(kept, {"o_proj": "attention", "down_proj": "ffn"}, model)


def half_removed(model: PreTrainedModel) -> NeuronMask:
    """About half of the neurons of every group, at random."""
    groups = neuron_groups(model)
    kept = {group.name: torch.arange(group.size) < group.size // 2 for group in groups}
    return random_like(NeuronMask.keep_all(groups, str(model.name_or_path)).with_kept(kept), seed=3)


def logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def test_a_fresh_mask_keeps_every_neuron(model):
    mask = NeuronMask.keep_all(neuron_groups(model), "m")
    assert mask.removed() == 0
    assert mask.neurons() == sum(group.size for group in neuron_groups(model))


def test_combining_masks_by_hand():
    first, second = mask_of("1100", "111"), mask_of("1010", "011")
    assert first & second == mask_of("1000", "011")
    assert first | second == mask_of("1110", "111")
    assert first - second == mask_of("1101", "111")
    assert second - first == mask_of("1011", "011")


def test_what_two_masks_remove_obeys_the_laws_of_sets():
    generator = torch.Generator().manual_seed(0)

    def drawn() -> NeuronMask:
        kept = {"o_proj": torch.rand(40, generator=generator) > 0.5, "down_proj": torch.rand(60, generator=generator) > 0.5}
        return mask_of("1", "1").with_kept(kept)

    a, b, c = drawn(), drawn(), drawn()
    everything = mask_of("1" * 40, "1" * 60)
    assert a & b == b & a and a | b == b | a
    assert (a & b) & c == a & (b & c)
    assert a & (b | c) == (a & b) | (a & c)
    assert a & a == a | a == a
    assert a & everything == a and a | everything == everything
    assert a - a == everything and a - everything == a
    assert (a - b) & (a | b) == a
    assert (a - b).removed() + (a | b).removed() == a.removed()


def test_combining_makes_a_new_mask_and_leaves_both_as_they_were():
    first, second = mask_of("1100", "111"), mask_of("1010", "011")
    combined = first & second
    combined["o_proj"][0] = False
    assert (first, second) == (mask_of("1100", "111"), mask_of("1010", "011"))


def test_masks_are_equal_when_they_keep_the_same_neurons():
    assert mask_of("10", "11") == mask_of("10", "11", model="the same from another folder")
    assert mask_of("10", "11") != mask_of("01", "11")
    assert mask_of("10", "11") != mask_of("10", "1")
    assert mask_of("10", "11") != "a mask"


def test_counting_by_kind():
    mask = mask_of("1000", "101")
    assert (mask.removed(), mask.removed("attention"), mask.removed("ffn")) == (4, 3, 1)
    assert (mask.neurons(), mask.neurons("attention"), mask.neurons("ffn")) == (7, 4, 3)


def test_a_mask_describes_itself_in_one_line():
    assert (
        mask_of("1000", "1" * 999 + "0", model="tiny").describe()
        == "removes 1 of 1,000 ffn neurons (0.1%) and 3 of 4 attention neurons (75.0%) of tiny"
    )


def test_masks_of_different_models_cannot_be_combined():
    other = mask_of("111", "111", model="larger")
    for combine in (NeuronMask.__and__, NeuronMask.__or__, NeuronMask.__sub__):
        with pytest.raises(MaskError, match="of the same model can be combined, but these were made for `m` and `larger`"):
            combine(mask_of("11", "11"), other)


def test_masks_whose_neurons_read_different_things_cannot_be_combined():
    mask = mask_of("11", "11")
    with pytest.raises(MaskError, match="whose removed neurons read the same can be combined, but one has ablation='zero' and"):
        mask & replace(mask, ablation="mean")


@pytest.mark.parametrize("ablation", ["zero", "mean", "mode"])
def test_a_mask_knows_what_its_neurons_read_wherever_it_goes(tmp_path, ablation):
    mask = replace(mask_of("10", "01"), ablation=ablation)
    mask.save(tmp_path / "mask.safetensors")
    save_mask_path(tmp_path / "mask-path.safetensors", [mask, mask & mask])
    again = [
        NeuronMask.load(tmp_path / "mask.safetensors"),
        *load_mask_path(tmp_path / "mask-path.safetensors"),
        random_like(mask, 0),
    ]
    assert [one.ablation for one in again] == [ablation] * 4


def test_what_is_saved_is_loaded(tmp_path):
    kept = {"layers.2": torch.tensor([True, False]), "layers.10": torch.tensor([False])}
    mask = NeuronMask(kept, {"layers.2": "ffn", "layers.10": "attention"}, "org/name")
    mask.save(tmp_path / "deep" / "mask.safetensors")
    loaded = NeuronMask.load(tmp_path / "deep" / "mask.safetensors")
    assert loaded == mask
    assert (list(loaded), loaded.kinds, loaded.model) == (["layers.2", "layers.10"], mask.kinds, "org/name")
    assert loaded["layers.2"].dtype == torch.bool


def test_a_file_that_is_not_a_mask_is_an_error(tmp_path):
    (tmp_path / "text").write_text("none")
    save_file({"a": torch.ones(1)}, tmp_path / "plain")
    ActivationStatistics({}, "m", None, "float32", ()).save(tmp_path / "statistics")
    for name, message in {
        "text": "must hold a mask, got 4 bytes that are no safetensors file",
        "missing": "cannot be opened .No such file",
        "plain": "must hold a mask, got a file whose format is `None`",
        "statistics": "format is `hf_untangle.statistics/1` and not hf_untangle.mask/1",
    }.items():
        with pytest.raises(MaskError, match=message):
            NeuronMask.load(tmp_path / name)


def test_a_mask_of_another_revision_is_refused_and_an_unknown_one_is_not(tiny_model, tmp_path, untouched):
    model = tiny_model("llama")
    model.name_or_path = "someone/model"
    groups = neuron_groups(model)
    NeuronMask.keep_all(groups, "someone/model", revision="abc").save(tmp_path / "mask.safetensors")
    mask = NeuronMask.load(tmp_path / "mask.safetensors")
    with masked(model, mask):  # A model from a folder has no commit.
        pass
    model.config._commit_hash = "def"
    message = "made for revision abc of `someone/model`, but this is revision def. Load that one"
    for use in (lambda: masked(model, mask).__enter__(), lambda: remove_(model, mask, groups), lambda: compact(model, mask)):
        with untouched(model), pytest.raises(MaskError, match=message):
            use()


def test_a_mask_of_another_model_is_refused_by_name(tiny_model):
    mask, gpt2 = half_removed(tiny_model("llama")), tiny_model("gpt2")
    name = "model.layers.0.self_attn.o_proj"
    message = f"made for `tiny-llama`, but this GPT2LMHeadModel has no projection `{name}`"
    with pytest.raises(MaskError, match=message), masked(gpt2, mask):
        pass
    with pytest.raises(MaskError, match=f"made for `tiny-llama` and has a group `{name}`, but `tiny-gpt2` has no such"):
        mask.check_fits(neuron_groups(gpt2), gpt2.name_or_path)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tiny_model, untouched):
    mask, wide = half_removed(tiny_model("llama")), tiny_model("llama", intermediate_size=64)
    wide.name_or_path = "wide"
    message = "has 48 neurons for `model.layers.0.mlp.down_proj`, but this model has 64. Was it made for another size"
    with untouched(wide), pytest.raises(MaskError, match=message), masked(wide, mask):
        pass
    with pytest.raises(MaskError, match="48 neurons for `model.layers.0.mlp.down_proj` of `tiny-llama`, but in `wide` it has"):
        mask.check_fits(neuron_groups(wide), wide.name_or_path)


def test_masking_equals_zeroing_what_reads_the_neurons(model, blocks):
    mask = half_removed(model)
    with masked(model, mask) as same:
        assert same is model
        tried = logits(model, blocks.input_ids)
    assert not torch.allclose(tried, logits(model, blocks.input_ids), atol=1e-2)
    zero_columns(model, mask)
    torch.testing.assert_close(tried, logits(model, blocks.input_ids))


@torch.no_grad()
def zero_columns(model: nn.Module, mask: NeuronMask) -> None:
    for name, kept in mask.items():
        projection = model.get_submodule(name)
        weight_of(projection).index_fill_(input_axis(projection), (~kept).nonzero().flatten(), 0)


def test_leaving_the_block_gives_the_original_back_bit_for_bit(model, blocks, untouched):
    before = logits(model, blocks.input_ids)
    with untouched(model), masked(model, half_removed(model)):
        logits(model, blocks.input_ids)
    assert torch.equal(logits(model, blocks.input_ids), before)


def test_an_error_inside_the_block_gives_the_original_back_too(model, untouched):
    mask = half_removed(model)
    with untouched(model), pytest.raises(KeyboardInterrupt), masked(model, mask):
        raise KeyboardInterrupt


def test_nested_masks_remove_what_either_removes(model, blocks):
    first, second = half_removed(model), random_like(half_removed(model), seed=9)
    with masked(model, first), masked(model, second):
        nested = logits(model, blocks.input_ids)
    with masked(model, first & second):
        assert torch.equal(nested, logits(model, blocks.input_ids))


def test_a_masked_model_generates_with_its_cache(model, blocks):
    prompt, mask = blocks.input_ids[:2], half_removed(model)
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 257}
    attention = torch.ones_like(prompt)
    with masked(model, mask):
        cached = model.generate(prompt, attention_mask=attention, use_cache=True, **options)
        whole = model.generate(prompt, attention_mask=attention, use_cache=False, **options)
    zero_columns(model, mask)
    assert cached.shape == (2, 18)
    assert torch.equal(cached, whole)
    assert torch.equal(cached, model.generate(prompt, attention_mask=attention, **options))


def test_a_masked_neuron_is_silent_even_where_it_was_nan(tiny_model, blocks):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = NeuronMask.keep_all(groups, "m")
    mask[groups[1].name][7] = False
    with torch.no_grad():
        model.get_submodule(groups[1].producers[0].name).weight[7] = torch.nan
    assert logits(model, blocks.input_ids).isnan().all()
    with masked(model, mask):
        assert logits(model, blocks.input_ids).isfinite().all()


def test_a_mask_of_some_groups_leaves_the_others_alone(tiny_model, blocks):
    model = tiny_model("llama")
    mask = NeuronMask.keep_all(neuron_groups(model)[:1], "m")
    with masked(model, mask):
        whole = logits(model, blocks.input_ids)
    assert torch.equal(whole, logits(model, blocks.input_ids))
