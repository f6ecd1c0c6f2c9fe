"""Neuron groups: found by a traced forward, compared with what is written down here by hand for every family."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, MambaConfig, MambaForCausalLM

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup, Producer
from hf_untangle.architecture.projections import bias_of, input_axis, weight_of
from hf_untangle.errors import ArchitectureError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.statistics.accumulators import observed
from hf_untangle.survey.tiny_models import tiny_model as survey_model

LAYERS, HEADS, GROUPED_HEADS, FFN = 2, 4, 2, 48


def grouped(head_size: int, start: int = 0) -> list[int]:
    """Value rows that two query heads share: heads 0 and 1 read key-value head 0, heads 2 and 3 head 1."""
    return [start + head // 2 * head_size + one for head in range(HEADS) for one in range(head_size)]


def interleaved(head_size: int) -> list[int]:
    """Value rows where the query, key and value rows of each head stand together."""
    return [head * 3 * head_size + 2 * head_size + one for head in range(HEADS) for one in range(head_size)]


def counted(size: int, start: int = 0) -> list[int]:
    return list(range(start, start + size))


GATED = {"mlp.down_proj": [("mlp.gate_proj", counted(FFN)), ("mlp.up_proj", counted(FFN))]}
LLAMA = ("model.layers", {"self_attn.o_proj": [("self_attn.v_proj", grouped(8))], **GATED})
WIDE_HEADS = ("model.layers", {"self_attn.o_proj": [("self_attn.v_proj", grouped(16))], **GATED})
EXPECTED: dict[str, tuple[str, dict[str, list[tuple[str, list[int]]]]]] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": WIDE_HEADS,
    "gemma2": WIDE_HEADS,
    "phi3": (
        "model.layers",
        {
            "self_attn.o_proj": [("self_attn.qkv_proj", grouped(8, start=32 + 16))],
            "mlp.down_proj": [("mlp.gate_up_proj", counted(FFN)), ("mlp.gate_up_proj", counted(FFN, start=FFN))],
        },
    ),
    "gpt2": (
        "transformer.h",
        {"attn.c_proj": [("attn.c_attn", counted(32, start=64))], "mlp.c_proj": [("mlp.c_fc", counted(FFN))]},
    ),
    "opt": (
        "model.decoder.layers",
        {"self_attn.out_proj": [("self_attn.v_proj", counted(32))], "fc2": [("fc1", counted(FFN))]},
    ),
    "gpt_neox": (
        "gpt_neox.layers",
        {
            "attention.dense": [("attention.query_key_value", interleaved(8))],
            "mlp.dense_4h_to_h": [("mlp.dense_h_to_4h", counted(FFN))],
        },
    ),
}
"""By family: the stack, and for the attention and the FFN of a layer the output projection and its producers' rows."""


def described(groups: tuple[NeuronGroup, ...]) -> list[tuple]:
    return [
        (
            group.name,
            group.kind,
            group.layer,
            group.size,
            group.heads,
            [(one.name, one.rows.tolist()) for one in group.producers],
        )
        for group in groups
    ]


def of_kind(model: nn.Module, kind: str) -> NeuronGroup:
    """The first group of a kind."""
    return next(group for group in neuron_groups(model) if group.kind == kind)


def test_every_output_projection_is_found_with_what_computes_it(family, model):
    stack, projections = EXPECTED[family]
    expected = []
    for layer in range(LAYERS):
        for (name, producers), kind in zip(projections.items(), ("attention", "ffn"), strict=True):
            prefix, size = f"{stack}.{layer}", len(producers[0][1])
            rows = [(f"{prefix}.{producer}", rows) for producer, rows in producers]
            expected.append((f"{prefix}.{name}", kind, layer, size, HEADS if kind == "attention" else None, rows))
    assert described(neuron_groups(model)) == expected


def test_heads_are_counted_on_both_sides_of_grouped_queries(family, model):
    attention, ffn = of_kind(model, "attention"), of_kind(model, "ffn")
    assert attention.head_size == {"qwen3": 16, "gemma2": 16}.get(family, 8)
    assert attention.key_value_heads == (HEADS if family in ("gpt2", "opt", "gpt_neox") else GROUPED_HEADS)
    assert (ffn.heads, ffn.head_size, ffn.key_value_heads) == (None, None, None)


def test_with_one_key_value_head_all_query_heads_share_its_rows(tiny_model):
    group = of_kind(tiny_model("llama", num_key_value_heads=1), "attention")
    assert group.key_value_heads == 1
    assert group.producers[0].rows.tolist() == 4 * counted(8)


@pytest.mark.parametrize("kind", ["attention", "ffn"])
def test_zeroing_the_producers_rows_silences_exactly_their_neurons(model, blocks, kind):
    group, chosen = of_kind(model, kind), 5
    before = activations(model, group, blocks)
    shared = torch.zeros(group.size, dtype=torch.bool)
    for producer in group.producers:
        shared |= producer.rows == producer.rows[chosen]
        zero_row(model.get_submodule(producer.name), int(producer.rows[chosen]))
    after = activations(model, group, blocks)
    assert shared[chosen] and before[:, shared].any()
    assert not after[:, shared].any()
    torch.testing.assert_close(after[:, ~shared], before[:, ~shared])


def activations(model: nn.Module, group: NeuronGroup, blocks) -> torch.Tensor:
    seen = []
    with observed(model, (group,), lambda _, reading: seen.append(reading.values.flatten(0, -2))), torch.no_grad():
        model(blocks.input_ids)
    return torch.cat(seen)


@torch.no_grad()
def zero_row(projection: nn.Module, row: int) -> None:
    weight_of(projection).select(1 - input_axis(projection), row).zero_()
    if (bias := bias_of(projection)) is not None:
        bias[row] = 0


def test_tracing_leaves_the_model_as_it_was(model, untouched):
    model.train()
    next(model.children()).eval()
    next(model.parameters()).requires_grad_(False)
    with untouched(model):
        neuron_groups(model)


def test_a_failed_trace_leaves_the_model_as_it_was(model, untouched, monkeypatch):
    monkeypatch.setattr(type(model.get_submodule(of_kind(model, "ffn").name)), "forward", interrupted)
    model.train()
    with untouched(model), pytest.raises(KeyboardInterrupt):
        neuron_groups(model)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_weights_play_no_part(model):
    expected = described(neuron_groups(model))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    assert described(neuron_groups(model)) == expected


def test_bfloat16_gives_the_same_groups(model):
    expected = described(neuron_groups(model))
    assert described(neuron_groups(model.bfloat16())) == expected


def test_bfloat16_tells_thousands_of_rows_apart(tiny_model):
    sizes = {"hidden_size": 640, "num_attention_heads": 5, "num_key_value_heads": 5, "intermediate_size": 5000}
    ffn = of_kind(tiny_model("llama", num_hidden_layers=1, **sizes).bfloat16(), "ffn")
    assert [producer.rows.tolist() for producer in ffn.producers] == [counted(5000), counted(5000)]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_groups_are_found_where_gradients_are_switched_off(model, mode):
    expected = described(neuron_groups(model))
    with mode():
        assert described(neuron_groups(model)) == expected


def test_a_mask_that_is_being_tried_hides_no_neuron(model):
    groups = neuron_groups(model)
    mask = NeuronMask.keep_all(groups, "m").with_kept({group.name: torch.arange(group.size) > 8 for group in groups})
    with masked(model, mask):
        assert described(neuron_groups(model)) == described(groups)


def test_a_model_on_the_meta_device_is_an_error():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", num_hidden_layers=1, hidden_size=32))
    with pytest.raises(
        ArchitectureError, match="must have its weights loaded, but `model.embed_tokens.weight` is on the meta device"
    ):
        neuron_groups(model)


def test_a_model_without_output_projections_is_an_error():
    with pytest.raises(ArchitectureError, match="No neurons were found in Sequential: no stack of layers in it has"):
        neuron_groups(nn.Sequential(nn.Linear(3, 3)))


def test_a_model_of_another_kind_is_an_error():
    config = MambaConfig(vocab_size=258, hidden_size=8, num_hidden_layers=1, state_size=2)
    with pytest.raises(ArchitectureError, match="No neurons were found in MambaForCausalLM"):
        neuron_groups(MambaForCausalLM(config))


def test_a_model_that_does_not_run_is_an_error_that_names_its_layers_and_the_way_out(tiny_model, monkeypatch):
    model = tiny_model("llama")
    monkeypatch.setattr(type(model.model.layers[0]), "forward", lambda *_, **__: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(
        ArchitectureError, match="must run on dummy inputs .* such as `model.layers` of LlamaDecoderLayer"
    ) as caught:
        neuron_groups(model)
    assert "Name the output projections by hand: `neuron_groups(model, named={" in str(caught.value)


def test_groups_can_be_named_by_hand(tiny_model, blocks):
    model = tiny_model("llama")
    groups = neuron_groups(model, named={"model.layers.*.mlp.down_proj": "ffn", "*.1.self_attn.o_proj": "attention"})
    assert [(group.name, group.kind, group.layer, group.size, group.heads, group.producers) for group in groups] == [
        ("model.layers.0.mlp.down_proj", "ffn", 0, FFN, None, ()),
        ("model.layers.1.self_attn.o_proj", "attention", 1, 32, HEADS, ()),
        ("model.layers.1.mlp.down_proj", "ffn", 1, FFN, None, ()),
    ]
    assert {group.stack for group in groups} == {"model.layers"}
    mask = NeuronMask.keep_all(groups, "m").with_kept({group.name: torch.arange(group.size) > 8 for group in groups})
    with masked(model, mask), torch.no_grad():
        expected = model(blocks.input_ids).logits
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    remove_(model, mask, groups)
    with torch.no_grad():
        torch.testing.assert_close(model(blocks.input_ids).logits, expected)
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)


@pytest.mark.parametrize(
    "pattern, kind, fits", [("model.*.down", "ffn", 0), ("model.layers.0.mlp", "ffn", 0), ("lm_head.*", "attention", 0)]
)
def test_a_pattern_that_fits_no_projection_is_an_error(tiny_model, pattern, kind, fits):
    with pytest.raises(
        ArchitectureError, match=f"of kind `{kind}` fits {fits}. The last projection of this model is `lm_head`"
    ):
        neuron_groups(tiny_model("llama"), named={pattern: kind})


def test_layers_that_share_a_weight_are_masked_and_removed_together():
    model = survey_model("zamba")
    groups = neuron_groups(model)
    shared, again = (model.model.layers[layer].shared_transf.feed_forward.down_proj for layer in (1, 3))
    assert shared is not again and shared.weight is again.weight
    assert [group.layer for group in groups] == [1, 1]
    seen = []
    with observed(model, groups[1:], lambda group, _: seen.append(group.name)), torch.no_grad():
        model(torch.ones(1, 3, dtype=torch.long))
    assert seen == 2 * ["model.layers.1.shared_transf.feed_forward.down_proj"]


def test_a_gate_behind_attention_is_a_producer_after_the_values():
    values, gate = of_kind(survey_model("qwen3_next"), "attention").producers
    assert values.name.endswith("v_proj") and values.rows.tolist() == [
        12 * (head // 2) + one for head in range(4) for one in range(12)
    ]
    assert gate.name.endswith("q_proj") and gate.rows.tolist() == [
        24 * head + 12 + one for head in range(4) for one in range(12)
    ]


def test_latent_attention_has_the_value_rows_of_its_second_projection():
    (values,) = of_kind(survey_model("deepseek_v3"), "attention").producers
    assert values.name == "model.layers.0.self_attn.kv_b_proj"
    assert values.rows.tolist() == [16 * head + 10 + one for head in range(4) for one in range(6)]


@pytest.mark.parametrize("model_type", ["bitnet", "gemma4_text", "doge", "diffllama"])
def test_neurons_that_no_row_computes_alone_have_no_producers(model_type):
    group = of_kind(survey_model(model_type), "attention")
    assert group.producers == () and group.heads == 4 and group.key_value_heads is None
    assert group.shares_rows_with_kept(torch.arange(group.size) > 4).sum() == 5


def test_neurons_that_do_not_divide_into_the_stated_heads_are_an_error(tiny_model):
    model = tiny_model("llama")
    model.config.num_attention_heads = 5
    with pytest.raises(ArchitectureError, match="The 32 attention neurons of .* must divide into the 5 heads"):
        neuron_groups(model)


def test_a_row_is_needed_by_none_once_every_neuron_that_reads_it_is_gone():
    producer = Producer("v_proj", torch.tensor([7, 8, 7, 8]))
    assert producer.rows_needed_by_none(torch.tensor([False, True, True, True])).tolist() == []
    assert producer.rows_needed_by_none(torch.tensor([False, True, False, True])).tolist() == [7]
    assert producer.rows_needed_by_none(torch.tensor([False, False, False, False])).tolist() == [7, 8]


def test_a_removed_neuron_is_still_computed_while_a_kept_one_shares_its_row():
    group = NeuronGroup("o_proj", "attention", 0, 4, (Producer("v_proj", torch.tensor([7, 8, 7, 8])),), heads=2)
    assert group.shares_rows_with_kept(torch.tensor([False, True, True, True])).tolist() == [True, False, False, False]
    assert not group.shares_rows_with_kept(torch.tensor([False, True, False, True])).any()
    assert not group.shares_rows_with_kept(torch.zeros(4, dtype=torch.bool)).any()
    assert not group.shares_rows_with_kept(torch.ones(4, dtype=torch.bool)).any()
