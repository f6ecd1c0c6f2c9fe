"""Saving: what plain loading gives is the model, also where transformers refuses to write it, or writes weights twice."""

import pytest
import torch
from accelerate import disk_offload
from safetensors import safe_open
from transformers import AutoModelForCausalLM, GenerationConfig

from hf_untangle.compaction.saving import check_savable, gathered, save_model
from hf_untangle.errors import ConfigError


def logits(model):
    with torch.no_grad():
        return model(torch.arange(9)[None]).logits


def reloaded(model, folder):
    save_model(model, folder, gathered(model))
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def names_in(folder) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


def test_settings_of_generation_that_contradict_each_other_are_saved_as_they_are(tiny_model, tmp_path):
    model = tiny_model("llama")
    own = model.generation_config = GenerationConfig(do_sample=False, temperature=0.5, top_p=0.9)
    again = reloaded(model, tmp_path)
    assert model.generation_config is own
    assert (again.generation_config.temperature, again.generation_config.do_sample) == (0.5, False)
    assert torch.equal(logits(again), logits(model))


def test_a_configuration_that_cannot_be_written_is_refused_before(tiny_model, untouched):
    model = tiny_model("llama")
    model.config.temperature = 0.5
    with untouched(model), pytest.raises(ConfigError, match="temperature.*Change `model.config` first"):
        check_savable(model)


def share_a_module(model):
    model.model.layers[1].mlp = model.model.layers[0].mlp


def share_a_weight(model):
    model.model.layers[1].mlp.down_proj.weight = model.model.layers[0].mlp.down_proj.weight


def tie_by_hand(model):
    model.lm_head.weight = model.model.embed_tokens.weight


@pytest.mark.parametrize("share", [share_a_module, share_a_weight, tie_by_hand], ids=lambda one: one.__name__)
def test_layers_that_share_weights_get_a_copy_each(share, tiny_model, tmp_path, untouched):
    model = tiny_model("llama")
    share(model)
    with untouched(model):
        again = reloaded(model, tmp_path)
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("how", ["in memory", "by a device map", "by hand"])
def test_tied_weights_are_written_once(how, tiny_model, tmp_path):
    model = tiny_model("llama", tie_word_embeddings=True)
    expected = logits(model)
    model.save_pretrained(tmp_path / "whole")
    if how == "by hand":
        disk_offload(model, tmp_path / "disk")
    elif how == "by a device map":
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", device_map={"": "disk"}, offload_folder=tmp_path / "o")
    again = reloaded(model, tmp_path / "out")
    assert names_in(tmp_path / "out") == names_in(tmp_path / "whole")
    assert "lm_head.weight" not in names_in(tmp_path / "out")
    assert torch.equal(logits(again), expected)
