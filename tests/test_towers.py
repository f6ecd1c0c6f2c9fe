"""Models that read images beside text: the layers of each can be had, silenced and removed by themselves."""

from copy import deepcopy
from typing import Any

import pytest
import torch

import hf_untangle as untangle
from hf_untangle.architecture.dummy_inputs import dummy_inputs
from hf_untangle.architecture.towers import Tower, check_tower, image_towers
from hf_untangle.errors import ArchitectureError, ConfigError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.survey.tiny_models import tiny_model

TOWERS: tuple[Tower, ...] = ("text", "vision", "all")
TYPES = {
    "gemma3": "model.vision_tower",
    "glm4v": "model.visual",
    "idefics3": "model.vision_model",
    "llava": "model.vision_tower",
    "paligemma": "model.vision_tower",
    "qwen2_5_vl": "model.visual",
    "qwen2_vl": "model.visual",
    "qwen3_vl": "model.visual",
}
"""Types that read images and text, and where they read images."""


def names(groups) -> list[str]:
    return [group.name for group in groups]


def seen(tower: Any) -> torch.Tensor:
    """What an image tower makes of images that differ from place to place."""
    inputs = dummy_inputs(tower, 2)
    pixels = next(name for name in inputs if name in ("pixel_values", "hidden_states"))
    generator = torch.Generator().manual_seed(0)
    inputs[pixels] = torch.randn(inputs[pixels].shape, generator=generator)
    with torch.no_grad():
        return tower(**inputs).last_hidden_state


@pytest.mark.parametrize(
    "model_type",
    [one if one in ("llava", "qwen2_vl", "gemma3") else pytest.param(one, marks=pytest.mark.slow) for one in TYPES],
)
def test_each_tower_is_located_and_both_together(model_type):
    model, path = tiny_model(model_type, "image-text"), TYPES[model_type]
    assert image_towers(model) == [path]
    text, vision, both = (untangle.neuron_groups(model, tower=tower) for tower in TOWERS)
    assert names(both) == names(vision) + names(text)
    assert names(text) == names(untangle.neuron_groups(model)), "what is read is text, where nothing else is said"
    assert {group.layer for group in vision} == {0, 1} and {group.kind for group in vision} == {"ffn", "attention"}
    assert all(group.name.startswith(f"{path}.") and group.stack.startswith(f"{path}.") for group in vision)
    assert all(producer.name.startswith(f"{path}.") for group in vision for producer in group.producers)
    assert not any(path in group.name for group in text)


@pytest.mark.parametrize("model_type", ["llava", "qwen2_vl"])
def test_neurons_of_an_image_tower_are_silenced_and_removed_alike_and_text_stays(model_type):
    model = tiny_model(model_type, "image-text")
    groups = untangle.neuron_groups(model, tower="vision")
    everything = NeuronMask.keep_all(groups, model_type)
    mask = everything.with_kept({name: torch.arange(len(kept)) % 3 != 0 for name, kept in everything.items()})
    removed: Any = deepcopy(model)
    remove_(removed, mask, groups)
    tower, small = (one.get_submodule(TYPES[model_type]) for one in (model, removed))
    before = seen(tower)
    with masked(model, mask):
        silenced = seen(tower)
    torch.testing.assert_close(seen(small), silenced, rtol=1e-4, atol=1e-5)
    assert (silenced - before).abs().max() > 0.01 and torch.equal(seen(tower), before)
    ids = torch.arange(3, 11)[None]
    with torch.no_grad():
        assert torch.equal(removed(input_ids=ids).logits, model(input_ids=ids).logits)


def test_towers_that_run_together_are_told_apart_too():
    model = tiny_model("clip", "towers")
    text, vision, both = (names(untangle.neuron_groups(model, tower=tower)) for tower in TOWERS)
    assert text and vision and sorted(text + vision) == sorted(both) == sorted(names(untangle.neuron_groups(model)))
    assert all("vision_model" in name for name in vision) and all("text_model" in name for name in text)


def test_a_tower_that_is_not_there_is_refused():
    model = tiny_model("llama")
    with pytest.raises(ArchitectureError, match="No layer of LlamaForCausalLM reads images, but tower='vision' asks for such"):
        untangle.neuron_groups(model, tower="vision")
    assert names(untangle.neuron_groups(model, tower="text")) == names(untangle.neuron_groups(model))


def test_a_tower_beside_names_or_of_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="tower must be one of text, vision, all, got 'sound'"):
        check_tower("sound")
    model = tiny_model("llama")
    with pytest.raises(ConfigError, match="`tower` must be left out, got 'text'"):
        untangle.neuron_groups(model, named={"model.layers.*.mlp.down_proj": "ffn"}, tower="text")
