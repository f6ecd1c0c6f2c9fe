"""Quantized models, by bitsandbytes in 8 and 4 bits and from GGUF: measured, masked, pruned where that is exact, and saved."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import gguf
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from test_removal import random_mask, whole_rows_mask
from toy_languages import NUMBERS, SMALL, WORDS
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from hf_untangle.architecture.inference_mode import REPACKS, evaluation_mode
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.quantized import codes_of, dequantized, zero_code
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.folder_to_folder import remove_folder
from hf_untangle.compaction.saving import save_model
from hf_untangle.errors import ArchitectureError, MaskError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_, removed_parameters
from hf_untangle.masks.undo_removal import bit_sum, cut_out_, put_back_
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency
from hf_untangle.statistics.weight_norms import weight_norms
from hf_untangle.unlearn import unlearn

FORMATS = {
    "8 bits": BitsAndBytesConfig(load_in_8bit=True),
    "nf4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "nf4, scales quantized too": BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    ),
    "fp4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
}
WIDE = {"hidden_size": 64, "intermediate_size": 128}
"""Widths that blocks of 64 weights fit in."""

# bitsandbytes says once that it has no kernel for this CPU, and how it casts.
pytestmark = pytest.mark.filterwarnings("ignore:.*MatMul8bitLt.*")


@pytest.fixture(scope="module")
def checkpoint(tiny_model, tmp_path_factory) -> Path:
    """A checkpoint in full precision."""
    folder = tmp_path_factory.mktemp("full")
    tiny_model("llama", **WIDE).save_pretrained(folder)
    return folder


@pytest.fixture(params=FORMATS)
def quantized(request, checkpoint) -> PreTrainedModel:
    """The checkpoint in every format of bitsandbytes, in turn."""
    return load(checkpoint, FORMATS[request.param])


def load(folder: Path, how: BitsAndBytesConfig) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=how, dtype=torch.float32).eval()


def test_a_code_and_its_scale_are_the_weight(checkpoint):
    full = AutoModelForCausalLM.from_pretrained(checkpoint).get_parameter("model.layers.0.mlp.down_proj.weight").detach()
    in_8 = load(checkpoint, FORMATS["8 bits"]).model.layers[0].mlp.down_proj
    largest = float(full.abs().max())
    torch.testing.assert_close(dequantized(in_8), full, rtol=0, atol=largest / 127)
    in_4 = load(checkpoint, FORMATS["nf4"]).model.layers[0].mlp.down_proj
    table, codes = in_4.weight.quant_state.code, codes_of(in_4)
    scales = in_4.weight.quant_state.absmax.repeat_interleave(64).view(full.shape)
    torch.testing.assert_close(table[codes.long()] * scales, dequantize_4bit(in_4.weight.data, in_4.weight.quant_state))
    assert zero_code(in_4) == 7 and zero_code(in_8) == 0


def test_passes_leave_every_code_and_every_scale_as_it_was(quantized, blocks):
    groups, before = neuron_groups(quantized), bit_sum(quantized)
    metrics = next_token_metrics(quantized, blocks, progress=False)
    collect(quantized, blocks, groups=groups, progress=False)
    assert all(one.second.any() for one in collect_saliency(quantized, blocks, groups=groups, progress=False).values())
    assert bit_sum(quantized) == before
    assert next_token_metrics(quantized, blocks, progress=False) == metrics


def test_statistics_and_norms_are_near_those_in_full_precision(quantized, checkpoint, blocks):
    full = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    groups = neuron_groups(quantized)
    assert [one.name for one in groups] == [one.name for one in neuron_groups(full)]
    statistics, expected = (collect(one, blocks, groups=groups, progress=False) for one in (quantized, full))
    norms, of_full = (weight_norms(one, groups) for one in (quantized, full))
    for group in groups:
        near(statistics[group.name].square, expected[group.name].square, 0.4)
        near(norms[group.name].rows, of_full[group.name].rows, 0.05)
        near(norms[group.name].column, of_full[group.name].column, 0.05)


def near(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert not torch.equal(found, expected)
    assert float((found - expected).norm() / expected.norm()) < share


def test_a_pruned_model_is_the_masked_model_saves_as_such_and_is_restored(quantized, tmp_path, blocks):
    groups = neuron_groups(quantized)
    mask, original = whole_rows_mask(groups), bit_sum(quantized)
    metrics = next_token_metrics(quantized, blocks, progress=False)
    with masked(quantized, mask):
        tried = next_token_metrics(quantized, blocks, progress=False)
    removed = cut_out_(quantized, mask, groups)
    assert next_token_metrics(quantized, blocks, progress=False) == tried != metrics
    for group in groups:
        projection = quantized.get_submodule(group.name)
        assert not dequantized(projection)[:, ~mask[group.name]].any()
        assert dequantized(projection)[:, mask[group.name]].any(0).all()
    save_model(quantized, tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    assert next_token_metrics(again, blocks, progress=False) == tried
    put_back_(quantized, removed)
    assert bit_sum(quantized) == original
    assert next_token_metrics(quantized, blocks, progress=False) == metrics


def test_a_value_row_that_stays_still_counts_in_the_scale_of_8_bit_activations(quantized, blocks):
    groups = neuron_groups(quantized)
    mask = random_mask(groups)
    with masked(quantized, mask):
        tried = next_token_metrics(quantized, blocks, progress=False)
    found = next_token_metrics(remove_(quantized, mask, groups), blocks, progress=False)
    in_8_bits = hasattr(quantized.model.layers[0].mlp.down_proj, "state")
    assert found.loss == pytest.approx(tried.loss, rel=1e-2 if in_8_bits else 1e-6)


def test_as_many_weights_are_removed_as_in_full_precision(quantized, checkpoint):
    groups = neuron_groups(quantized)
    mask = random_mask(groups)
    full = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert removed_parameters(quantized, mask, groups) == removed_parameters(full, mask, groups) > 0


def test_the_mask_of_a_quantized_model_prunes_its_full_precision_checkpoint(quantized, checkpoint, tmp_path):
    groups = neuron_groups(quantized)
    random_mask(groups).save(tmp_path / "mask.safetensors")
    mask = NeuronMask.load(tmp_path / "mask.safetensors")
    remove_folder(checkpoint, tmp_path / "pruned", mask)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned").state_dict()
    full = AutoModelForCausalLM.from_pretrained(checkpoint)
    expected = remove_(full, mask, neuron_groups(full)).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_that_were_repacked_are_refused_as_their_scales_are_rounded(checkpoint, blocks):
    model = load(checkpoint, FORMATS["nf4"])
    groups = neuron_groups(model)
    model.get_submodule(groups[-1].name).weight.quant_state.packing_format_for_cpu = True
    before = codes_of(model.get_submodule(groups[0].name))
    with pytest.raises(MaskError, match="bitsandbytes has repacked them for this CPU, and rounded .* Load the model again"):
        remove_(model, random_mask(groups), groups)
    assert torch.equal(codes_of(model.get_submodule(groups[0].name)), before)


def test_repacking_is_held_off_and_allowed_again(checkpoint):
    model = load(checkpoint, FORMATS["nf4"])
    setattr(model.model.layers[0].mlp.down_proj, REPACKS, True)
    with evaluation_mode(model):
        assert not any(getattr(module, REPACKS, False) for module in model.modules())
    assert getattr(model.model.layers[0].mlp.down_proj, REPACKS)


def test_what_needs_floating_point_says_so(quantized, blocks):
    groups = neuron_groups(quantized)
    mask = random_mask(groups)
    with pytest.raises(MaskError, match="All weights must be in floating point for this, but some of them are quantized"):
        compact(quantized, mask)
    values = mean_ablation(collect(quantized, blocks, groups=groups, progress=False))
    with pytest.raises(ArchitectureError, match="must have a bias to hold the mean of removed neurons"):
        remove_(quantized, mask, groups, constants=values)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["8 bits", "nf4"])
def test_a_quantized_model_unlearns_and_is_saved(taught, tokenizer, tmp_path, how):
    taught.save_pretrained(tmp_path / "toy")
    model = load(tmp_path / "toy", FORMATS[how])
    settings = {**SMALL, "ffn_fraction": 0.1, "steps": 1, "controls": 0}
    result = unlearn(model, NUMBERS, WORDS, tokenizer=tokenizer, progress=False, **settings)
    assert result.mask.removed() > 0
    result.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    for group in neuron_groups(again):
        assert not dequantized(again.get_submodule(group.name))[:, ~result.mask[group.name]].any()


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What GGUF calls the modules of a Llama."""


@pytest.fixture(scope="module")
def from_gguf(tiny_model, tmp_path_factory) -> Callable[[], PreTrainedModel]:
    """Read a model of 8-bit blocks from a GGUF file."""
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(tiny_model("llama", **WIDE), folder / "tiny.gguf")
    return lambda: AutoModelForCausalLM.from_pretrained(folder, gguf_file="tiny.gguf").eval()


def write_gguf(model: PreTrainedModel, file: Path) -> None:
    config, writer = model.config, gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    eight = gguf.GGMLQuantizationType.Q8_0
    for name, weight in model.state_dict().items():
        path = name.removesuffix(".weight").split(".", 3)
        own = f"blk.{path[2]}.{NAMES[path[3]]}" if len(path) == 4 else NAMES[".".join(path)]
        if weight.ndim == 2:
            writer.add_tensor(f"{own}.weight", gguf.quants.quantize(weight.numpy(), eight), raw_dtype=eight)
        else:
            writer.add_tensor(f"{own}.weight", weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_model_from_gguf_is_measured_pruned_and_saved(from_gguf, tmp_path, blocks):
    model = from_gguf()
    groups = neuron_groups(model)
    mask = random_mask(groups)
    statistics = collect(model, blocks, groups=groups, progress=False)
    assert all(moments.square.any() for moments in statistics.values())
    with masked(model, mask):
        tried = next_token_metrics(model, blocks, progress=False)
    remove_(model, mask, groups)
    save_model(model, tmp_path / "saved")
    assert model.config.quantization_config.quant_method == "gguf"
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    assert not hasattr(again.config, "quantization_config")
    expected = deepcopy(model.state_dict())
    assert all(torch.equal(weight, expected[name]) for name, weight in again.state_dict().items())
    found = next_token_metrics(again, blocks, progress=False)
    assert found.loss == pytest.approx(tried.loss, rel=1e-5)
