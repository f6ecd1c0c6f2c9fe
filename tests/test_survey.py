"""What works on every type of model: a list that is checked in, some of it in every run, and all of it in the slow tests."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.cli.main import app
from hf_untangle.errors import ArchitectureError
from hf_untangle.survey.invariants import broken_laws
from hf_untangle.survey.support import support_of
from hf_untangle.survey.survey import OTHER_TYPES, sweep
from hf_untangle.survey.tiny_models import causal_types, random_inputs, tiny_config, tiny_model

LOCATED = (Path(__file__).parent / "located_types.txt").read_text().split()
"""Types of causal language models on which every law held when the list was made (benchmarks/support_table.py)."""
DIVERSE = """
llama gpt2 gpt_neox gptj falcon bloom mpt phi3 gemma2 gemma4_text cohere olmo2 opt xglm gpt_bigcode mixtral qwen3_moe gpt_oss
deepseek_v3 longcat_flash qwen3_next jamba rwkv bitnet doge zamba prophetnet
"""
"""Types that differ from each other in what matters here."""


@pytest.mark.parametrize("model_type", DIVERSE.split())
def test_every_law_holds_on_types_that_differ(model_type):
    assert model_type in LOCATED
    support = support_of(model_type)
    assert support.located, support.why


@pytest.mark.slow
@pytest.mark.parametrize("model_type", LOCATED)
def test_every_law_still_holds_on_every_type(model_type):
    support = support_of(model_type)
    assert support.located, support.why


def test_at_least_170_types_are_located():
    assert len(set(LOCATED)) == len(LOCATED) >= 170
    assert set(LOCATED) <= set(causal_types())


def test_tiny_models_are_tiny_and_the_same_every_time():
    one, other = tiny_model("llama"), tiny_model("llama")
    assert sum(parameter.numel() for parameter in one.parameters()) < 50_000
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(one.parameters(), other.parameters(), strict=True))


def test_tiny_sizes_can_be_told_apart():
    config = tiny_config("llama")
    sizes = (config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim)
    assert len({*sizes, config.num_key_value_heads * config.head_dim, config.vocab_size}) == 5


def test_a_tiny_model_has_a_layer_of_every_kind():
    assert tiny_config("gemma3_text").layer_types == ["sliding_attention", "full_attention"]


def test_a_law_that_does_not_hold_is_named():
    model = tiny_model("llama")
    groups = neuron_groups(model)
    model.model.layers[0].mlp.down_proj.register_forward_hook(
        lambda _, args, output: output + args[0].sum() * 0 + torch.rand(1)
    )
    broken = broken_laws(model, groups, random_inputs("causal-lm"))
    assert "taking the mask off must give the outputs back bit for bit" in broken
    assert "removal must give the masked outputs" in broken


def test_a_type_without_neurons_says_why():
    support = support_of("mamba")
    assert not support.located
    assert support.why.startswith(
        "No neurons were found in MambaForCausalLM: no stack of layers in it, such as `backbone.layers`"
    )


def test_a_hybrid_says_which_layers_have_no_attention():
    support = support_of("qwen3_next")
    assert (support.layers, support.ffn, support.attention, support.experts) == (2, 2, 1, 2)
    assert support.why.startswith("no attention neurons in 1 of 2 layers, such as `model.layers.0` (linear_attn, mlp, ")


def test_a_sweep_takes_the_types_that_are_asked_for():
    assert [(one.type, one.task) for one in sweep(["t5", "gpt2"])] == [("gpt2", "causal-lm"), ("t5", "sequence-to-sequence")]
    assert set(OTHER_TYPES) >= {"bert", "roberta", "modernbert", "t5", "bart", "vit", "deit", "clip", "whisper"}


def test_an_unknown_type_is_an_error():
    with pytest.raises(ArchitectureError, match="must be one that transformers knows, got `lama`"):
        next(sweep(["lama"]))


def test_the_command_prints_a_table_or_json():
    result = CliRunner().invoke(app, ["models", "--type", "llama", "--json"])
    (row,) = json.loads(result.stdout)
    assert (row["type"], row["located"], row["ffn"], row["attention"], row["layers"], row["why"]) == (
        "llama",
        True,
        2,
        2,
        2,
        "",
    )
    assert CliRunner().invoke(app, ["models", "--type", "lama"]).exit_code == 3
