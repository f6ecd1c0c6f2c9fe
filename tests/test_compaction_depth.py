"""Whole layers taken out: the shorter model computes what the masked one does, and loads where this package is missing."""

import json
import logging
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.depth import empty_layers, shorter_config
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_

LAYERS = 4
APART = """
import sys, torch
sys.modules["hf_untangle"] = None
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("small")
generated = model.generate(torch.arange(1, 9)[None], max_new_tokens=6, do_sample=False, pad_token_id=0)
with torch.no_grad():
    save_file({"logits": model(torch.arange(1, 9)[None]).logits, "generated": generated}, "apart.safetensors")
"""
"""Loads a checkpoint in a process that cannot import this package, and writes down what the model says."""


@pytest.fixture
def deep(tiny_model):
    """A tiny model of four layers."""

    def make(family: str, **settings) -> PreTrainedModel:
        return tiny_model(family, **{"n_layer" if family == "gpt2" else "num_hidden_layers": LAYERS} | settings)

    return make


def without(model: PreTrainedModel, gone: set[int], *, ffn: float = 0) -> NeuronMask:
    """A mask that removes layers, and a share of the FFN neurons of the others."""
    groups = neuron_groups(model)
    kept = {
        group.name: torch.arange(group.size)
        >= (group.size if group.layer in gone else ffn * group.size * (group.kind == "ffn"))
        for group in groups
    }
    return NeuronMask.keep_all(groups, str(model.name_or_path)).with_kept(kept)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(1, 9)[None]).logits


def layers_of(model: PreTrainedModel) -> int:
    return model.config.num_hidden_layers


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3", "gpt2", "opt", "gpt_neox"])
def test_layers_of_which_nothing_stays_go_and_the_rest_computes_what_it_did(deep, family, untouched):
    model = deep(family)
    mask = without(model, {1, 3})
    with untouched(model):
        small = compact(model, mask, layout="uniform")
    with masked(model, mask):
        torch.testing.assert_close(logits(small), logits(model), rtol=1e-5, atol=1e-5)
    assert (
        layers_of(small)
        == len(small.get_decoder().layers if hasattr(small.get_decoder(), "layers") else small.transformer.h)
        == 2
    )
    assert all(len(own) == 2 for own in [getattr(small.config, "layer_types", None)] if own)


@pytest.mark.parametrize("layout", ["uniform", "ragged"])
def test_layers_that_stay_are_made_narrower_as_ever(deep, layout, tmp_path):
    model = deep("llama")
    mask = without(model, {0, 2}, ffn=0.5)
    small = compact(model, mask, layout=layout)
    assert [layer.mlp.down_proj.in_features for layer in small.model.layers] == [24, 24]
    with masked(model, mask):
        torch.testing.assert_close(logits(small), logits(model), rtol=1e-5, atol=1e-5)


def test_layers_of_several_widths_keep_their_own_when_one_between_them_goes(deep, tmp_path):
    model = deep("llama")
    groups = neuron_groups(model)
    widths = {group.name: torch.arange(group.size) >= 8 * group.layer for group in groups if group.kind == "ffn"}
    ragged = compact(model, NeuronMask.keep_all(groups, str(model.name_or_path)).with_kept(widths), layout="ragged")
    mask = without(ragged, {1})
    small = compact(ragged, mask, layout="ragged")
    assert [layer.mlp.down_proj.in_features for layer in small.model.layers] == [48, 32, 24]
    with masked(ragged, mask):
        torch.testing.assert_close(logits(small), logits(ragged), rtol=1e-5, atol=1e-5)
    small.save_pretrained(tmp_path / "small")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "small")), logits(small))


def test_layers_are_read_off_the_weights_too(deep):
    model = deep("llama")
    mask = without(model, {1})
    remove_(model, mask, neuron_groups(model))
    assert layers_of(compact(model, layout="uniform")) == 3


def test_a_shorter_checkpoint_loads_bit_for_bit_where_this_package_is_missing(deep, tmp_path):
    model = deep("gemma2")  # layers of two types in turn
    small = compact(model, without(model, {0, 1, 3}), layout="uniform")
    assert small.config.layer_types == model.config.layer_types[2:3]
    small.save_pretrained(tmp_path / "small")
    subprocess.run([sys.executable, "-c", APART], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    apart = load_file(tmp_path / "apart.safetensors")
    assert torch.equal(apart["logits"], logits(small))
    again = small.generate(torch.arange(1, 9)[None], max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(apart["generated"], again)
    assert json.loads((tmp_path / "small" / "config.json").read_text())["num_hidden_layers"] == 1


def test_keys_and_values_are_kept_by_the_new_number_of_the_layer(deep):
    model = deep("llama")
    small = compact(model, without(model, {0, 2}), layout="uniform")
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        first = small(ids[:, :5], use_cache=True)
        rest = small(ids[:, 5:], past_key_values=first.past_key_values)
    assert len(first.past_key_values.layers) == 2
    torch.testing.assert_close(rest.logits, logits(small)[:, 5:], rtol=1e-5, atol=1e-5)


def test_a_first_layer_whose_bias_no_other_can_take_keeps_its_place(deep, caplog):
    model = deep("gpt2")
    with caplog.at_level(logging.WARNING, logger="hf_untangle"):
        small = compact(model, without(model, {0}), layout="uniform")
    assert layers_of(small) == LAYERS
    assert "keep their place" in caplog.text


def test_the_constant_of_a_layer_goes_into_the_bias_before_it(deep):
    model = deep("gpt2")
    small = compact(model, without(model, {1, 2}), layout="uniform")
    gone = [model.transformer.h[layer] for layer in (1, 2)]
    expected = model.transformer.h[0].mlp.c_proj.bias + sum(one.attn.c_proj.bias + one.mlp.c_proj.bias for one in gone)
    torch.testing.assert_close(small.transformer.h[0].mlp.c_proj.bias, expected)


def test_a_layer_whose_norm_comes_last_is_no_identity_and_stays(tiny_model):
    model = tiny_model("opt", do_layer_norm_before=False)
    assert layers_of(compact(model, without(model, {1}), layout="uniform")) == 2


def test_no_model_is_left_without_a_layer(deep):
    model = deep("llama")
    mask = without(model, set(range(LAYERS)))
    assert empty_layers(neuron_groups(model), mask) == {"model.layers": [1, 2, 3]}


def test_settings_that_number_layers_are_numbered_anew(deep):
    model = deep("llama")
    model.config.mlp_only_layers = [0, 2, 3]
    model.config.first_k_dense_replace = 2
    config = shorter_config(type(model), model.config, "model.layers", [1])
    assert config is not None
    assert (config.mlp_only_layers, config.first_k_dense_replace) == ([0, 1, 2], 1)
