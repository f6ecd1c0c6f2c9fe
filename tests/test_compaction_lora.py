"""Compaction of a model with LoRA adapters: they shrink with it, and continue doing what they did."""

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from test_compaction import logits, some_removed

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.compact import compact
from hf_untangle.errors import CompactionError
from hf_untangle.masks.removal import remove_

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft

TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


def adapted(model, family: str) -> PeftModel:
    """A model with an adapter whose factors are not zero."""
    conv = family == "gpt2"
    config = LoraConfig(r=3, target_modules=TARGETS[family], init_lora_weights=False, fan_in_fan_out=conv)
    torch.manual_seed(1)
    return get_peft_model(model, config).eval()


@pytest.mark.parametrize("layout", ["ragged", "uniform"])
@pytest.mark.parametrize("family", TARGETS)
def test_the_adapter_of_a_compacted_model_does_what_the_merged_model_does_without_the_neurons(
    tiny_model, blocks, family, layout, tmp_path
):
    groups = neuron_groups(tiny_model(family))
    mask = some_removed(groups)
    model = adapted(tiny_model(family), family)
    small = compact(model, mask, layout=layout)
    merged = remove_(adapted(tiny_model(family), family).merge_and_unload(), mask, groups)
    torch.testing.assert_close(logits(small, blocks.input_ids), logits(merged, blocks.input_ids), atol=1e-4, rtol=1e-4)
    with small.disable_adapter():
        expected = compact(tiny_model(family), mask, layout=layout)
        assert torch.equal(logits(small, blocks.input_ids), logits(expected, blocks.input_ids))
    small.save_pretrained(tmp_path, save_embedding_layers=False)  # Else peft asks the Hub about the vocabulary.
    loaded = PeftModel.from_pretrained(expected, tmp_path)
    assert torch.equal(logits(loaded, blocks.input_ids), logits(small, blocks.input_ids))


def test_the_model_with_adapters_is_left_as_it_was(tiny_model, untouched):
    model = adapted(tiny_model("llama"), "llama")
    with untouched(model):
        compact(model, some_removed(neuron_groups(tiny_model("llama"))))


def test_other_adapters_are_refused(tiny_model):
    model = get_peft_model(
        tiny_model("llama"), IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    )
    with pytest.raises(CompactionError, match="Only plain LoRA .* but the adapter `default` has `.*ia3_l"):
        compact(model, some_removed(neuron_groups(tiny_model("llama"))))


def test_adapters_inside_a_model_are_refused(tiny_model):
    model = tiny_model("llama")
    model.add_adapter(LoraConfig(target_modules=["up_proj"]))
    with pytest.raises(CompactionError, match=r"cannot be told from it. Load them with `PeftModel.from_pretrained"):
        compact(model)
