"""Neurons of encoders, of both halves of sequence-to-sequence models, of images and of speech, against lists made by hand."""

import pytest
import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.survey.invariants import broken_laws
from hf_untangle.survey.support import support_of
from hf_untangle.survey.survey import OTHER_TYPES
from hf_untangle.survey.tiny_models import random_inputs, tiny_model

ENCODER = ["attention attention.output.dense", "ffn output.dense"]
POST_NORM = ["attention self_attn.out_proj", "ffn fc2"]
CROSS = ["attention self_attn.out_proj", "attention encoder_attn.out_proj", "ffn fc2"]
EXPECTED: dict[str, dict[str, list[str]]] = {
    "bert": {"bert.encoder.layer": ENCODER},
    "roberta": {"roberta.encoder.layer": ENCODER},
    "deberta": {"deberta.encoder.layer": ENCODER},
    "deberta-v2": {"deberta.encoder.layer": ENCODER},
    "modernbert": {"model.layers": ["attention attn.Wo", "ffn mlp.Wo"]},
    "t5": {
        "encoder.block": ["attention layer.0.SelfAttention.o", "ffn layer.1.DenseReluDense.wo"],
        "decoder.block": [
            "attention layer.0.SelfAttention.o",
            "attention layer.1.EncDecAttention.o",
            "ffn layer.2.DenseReluDense.wo",
        ],
    },
    "bart": {"model.encoder.layers": POST_NORM, "model.decoder.layers": CROSS},
    "vit": {"vit.layers": ["attention attention.o_proj", "ffn mlp.fc2"]},
    "deit": {"deit.layers": ["attention attention.o_proj", "ffn mlp.fc2"]},
    "clip": {
        "text_model.encoder.layers": ["attention self_attn.out_proj", "ffn mlp.fc2"],
        "vision_model.encoder.layers": ["attention self_attn.out_proj", "ffn mlp.fc2"],
    },
    "whisper": {"model.encoder.layers": POST_NORM, "model.decoder.layers": CROSS},
}
"""By type: the output projections of every layer of every stack, in the order in which they run."""


@pytest.mark.parametrize("model_type", EXPECTED)
def test_every_stack_is_found_layer_by_layer(model_type):
    model = tiny_model(model_type, OTHER_TYPES[model_type])
    found: dict[str, list[str]] = {}
    for group in neuron_groups(model):
        path = group.name.removeprefix(f"{group.stack}.{group.layer}.")
        found.setdefault(f"{group.stack}.{group.layer}", []).append(f"{group.kind} {path}")
    expected = {f"{stack}.{layer}": names for stack, names in EXPECTED[model_type].items() for layer in range(2)}
    assert found == expected


@pytest.mark.parametrize("model_type", OTHER_TYPES)
def test_masks_keep_the_law(model_type):
    task = OTHER_TYPES[model_type]
    model = tiny_model(model_type, task)
    assert broken_laws(model, neuron_groups(model), random_inputs(task)) == []


@pytest.mark.parametrize("model_type", OTHER_TYPES)
def test_every_neuron_has_rows_that_compute_it(model_type):
    for group in neuron_groups(tiny_model(model_type, OTHER_TYPES[model_type])):
        # The values of DeBERTa have a bias outside of their projection, which computes on when all rows are zero.
        assert bool(group.producers) != (model_type == "deberta" and group.kind == "attention"), group.name
        assert all(len(producer.rows) == group.size for producer in group.producers)


def test_the_heads_of_two_towers_are_those_of_each():
    model = tiny_model(
        "clip",
        "towers",
        vision_config={
            "hidden_size": 24,
            "num_attention_heads": 3,
            "image_size": 16,
            "patch_size": 8,
            "num_hidden_layers": 1,
            "intermediate_size": 36,
        },
    )
    heads = {group.stack: (group.heads, group.size) for group in neuron_groups(model) if group.kind == "attention"}
    assert heads["vision_model.encoder.layers"] == (3, 24)
    assert heads["text_model.encoder.layers"][0] == 4


def test_cross_attention_reads_values_of_the_encoder():
    group = next(group for group in neuron_groups(tiny_model("t5", "sequence-to-sequence")) if "EncDec" in group.name)
    assert [producer.name for producer in group.producers] == ["decoder.block.0.layer.1.EncDecAttention.v"]
    assert torch.equal(group.producers[0].rows, torch.arange(group.size))


def test_layers_that_share_their_weights_are_one_layer():
    groups = neuron_groups(tiny_model("albert", "masked-lm"))
    assert [group.kind for group in groups] == ["attention", "ffn"]
    assert support_of("albert", "masked-lm").located


def test_tokens_at_one_position_are_not_taken_for_packed_sequences_where_the_model_around_makes_no_mask():
    groups = neuron_groups(tiny_model("paligemma", "image-text"))
    assert [group.kind for group in groups] == ["attention", "ffn"] * 2
    assert all(group.producers for group in groups)
