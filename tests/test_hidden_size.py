"""Narrower residual streams: what lies in few directions is kept, the rest made up for, and all else refused in words."""

import json
import logging
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from toy_languages import NUMBERS, WORDS
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.projections import place_of
from hf_untangle.cli.main import app
from hf_untangle.compaction import cut_hidden_size
from hf_untangle.compaction.hidden_basis import bare, choose, refitted
from hf_untangle.compaction.hidden_size import _Narrowing
from hf_untangle.compaction.residual_stream import ResidualStream, narrower_config, width_of
from hf_untangle.data.batches import token_blocks
from hf_untangle.errors import CompactionError, ConfigError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.recipes.read import carry_out, read_recipe
from hf_untangle.survey.tiny_models import tiny_model as tiny_of_type

RECIPE = Path(__file__).parents[1] / "recipes" / "hidden-size" / "smollm2-narrower.yaml"
SIZE = 24
"""Of a stream of 32."""
READ = {"tokens": 512, "block_size": 32, "progress": False}
TURNED = ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "mixtral", "qwen3_moe", "gpt_oss", "granite"]
CHANNELS = [*TURNED, "gemma2", "gemma3_text", "olmo2"]


def lying_in(model, basis):
    """Let everything that a model writes to its stream lie in some directions."""
    names = {"model.embed_tokens.weight"} | {place_of(model, group.name).weight for group in neuron_groups(model)}
    names |= {bias for group in neuron_groups(model) if (bias := place_of(model, group.name).bias)}
    axes = ResidualStream.of(model, neuron_groups(model), narrower_config(model, neuron_groups(model), SIZE)).writing
    assert set(axes) <= names
    with torch.no_grad():
        for name, axis in axes.items():
            weight = model.get_parameter(name)
            weight.copy_((weight.movedim(axis, -1) @ basis @ basis.T).movedim(-1, axis))
    return model


def made(model_type):
    """A tiny model whose norms have scales of all sizes."""
    model = tiny_of_type(model_type)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.name_or_path = f"tiny-{model_type}"
    return model.eval()


def said(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.fixture
def ids():
    return torch.randint(60, (2, 20), generator=torch.Generator().manual_seed(3))


def texts(model):
    """Blocks of random tokens, which every model can read."""
    size = model.get_input_embeddings().weight.shape[0]
    return torch.randint(size, (16, 32), generator=torch.Generator().manual_seed(5))


def cut(model, blocks, basis):
    """What `cut_hidden_size` does, on blocks that need no tokenizer."""
    groups = neuron_groups(model)
    config = narrower_config(model, groups, SIZE)
    stream = ResidualStream.of(model, groups, config)
    if basis == "rotation":
        config.tie_word_embeddings = False
    narrow = _Narrowing(model, stream, config, choose(model, stream, blocks, basis, SIZE, progress=False))
    with torch.no_grad():
        return narrow.model_with(
            refitted(model, stream, blocks, narrow.directions, as_they_are=narrow.unfolded, progress=False)
        )


@pytest.mark.parametrize("model_type", TURNED)
def test_a_stream_that_lies_in_few_directions_loses_nothing(model_type, blocks_of, ids, tmp_path):
    basis = torch.linalg.qr(torch.randn(32, SIZE, generator=torch.Generator().manual_seed(2)))[0]
    model = lying_in(made(model_type), basis)
    expected, before = said(model, ids), deepcopy(model.state_dict())
    small = cut(model, blocks_of(texts(model)), "rotation")
    assert width_of(small) == SIZE
    assert torch.allclose(said(small, ids), expected, atol=2e-3 * float(expected.abs().max()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    small.save_pretrained(tmp_path)
    assert torch.equal(said(AutoModelForCausalLM.from_pretrained(tmp_path), ids), said(small, ids))


@pytest.mark.parametrize("written", [SIZE, SIZE - 4])
@pytest.mark.parametrize("model_type", CHANNELS)
def test_channels_that_nothing_writes_to_go_and_ties_stay(model_type, written, blocks_of, ids, tmp_path):
    kept = torch.randperm(32, generator=torch.Generator().manual_seed(4))[:written]
    model = lying_in(made(model_type), torch.eye(32)[:, kept])
    expected = said(model, ids)
    small = cut(model, blocks_of(texts(model)), "channels")
    assert torch.allclose(said(small, ids), expected, atol=2e-3 * float(expected.abs().max()))
    ties = [one.get_input_embeddings().weight is one.get_output_embeddings().weight for one in (model, small)]
    assert ties[0] == ties[1]
    small.save_pretrained(tmp_path)
    assert torch.equal(said(AutoModelForCausalLM.from_pretrained(tmp_path), ids), said(small, ids))


@pytest.mark.parametrize("basis", ["rotation", "channels"])
def test_principal_components_lose_less_than_channels_and_a_refit_less_than_none(basis, taught, tokenizer):
    small = cut_hidden_size(taught, NUMBERS, size=28, basis=basis, tokenizer=tokenizer, **READ)
    blocks = token_blocks(NUMBERS, tokenizer, tokens=512, part="train", block_size=32)
    groups = neuron_groups(taught)
    config = narrower_config(taught, groups, 28)
    stream = ResidualStream.of(taught, groups, config)
    config.tie_word_embeddings = False
    bases = {one: choose(taught, stream, blocks, one, 28, progress=False) for one in ("rotation", "channels")}
    with torch.no_grad():
        without = _Narrowing(taught, stream, config, bases[basis]).model_with(bare(stream.norms, bases[basis]))
    loss = {name: next_token_metrics(one, blocks, progress=False).loss for name, one in {"bare": without, "fit": small}.items()}
    assert loss["fit"] < loss["bare"]
    held = {one: float((basis_.T @ moments(taught, stream, blocks) @ basis_).trace()) for one, basis_ in bases.items()}
    assert held["rotation"] > held["channels"]


def moments(model, stream, blocks):
    """The sum of what norms hand on, by itself: states that leave each norm, over its scale."""
    total = torch.zeros(stream.width, stream.width, dtype=torch.float64)

    def add(scale, output):
        states = output.flatten(0, 1) / scale
        total.add_(states.T @ states)

    norms = [(model.get_submodule(norm.path), norm.scale) for norm in stream.norms]
    hooks = [one.register_forward_hook(lambda _, __, output, scale=scale: add(scale, output)) for one, scale in norms]
    with torch.no_grad():
        model(input_ids=blocks.input_ids)
    for hook in hooks:
        hook.remove()
    return total


def test_padding_says_nothing_about_which_channels_stay(tiny_model, blocks_of, ids):
    model = tiny_model("llama")
    stream = ResidualStream.of(model, neuron_groups(model), narrower_config(model, neuron_groups(model), SIZE))
    padded = torch.cat([ids, torch.full((2, 7), 257)], 1)
    mask = torch.arange(27).expand(2, 27) < 20
    found = [
        choose(model, stream, blocks, "channels", SIZE, progress=False)
        for blocks in (blocks_of(ids), blocks_of(padded, mask), blocks_of(torch.cat([ids, ids]), counted=None))
    ]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_head_that_was_shared_gets_its_own_and_a_word_is_said_where_that_takes_more(tiny_model, tokenizer, caplog):
    model = tiny_model("llama", tie_word_embeddings=True)
    with caplog.at_level(logging.WARNING):
        turned = cut_hidden_size(model, WORDS, size=28, tokenizer=tokenizer, **READ)
    assert turned.get_input_embeddings().weight is not turned.get_output_embeddings().weight
    assert not turned.config.tie_word_embeddings and model.config.tie_word_embeddings
    assert turned.num_parameters() > model.num_parameters() and "cut_vocabulary" in caplog.text
    caplog.clear()
    same = cut_hidden_size(model, WORDS, size=28, basis="channels", tokenizer=tokenizer, **READ)
    assert same.get_input_embeddings().weight is same.get_output_embeddings().weight
    assert same.num_parameters() < model.num_parameters() and not caplog.text


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("gpt2", r"one axis of that size, but `transformer.h.0.attn.c_attn.weight`"),
        ("opt", "no|one axis|does more than that"),
        ("gpt_neox", "one axis of that size"),
        ("gemma2", "Use basis='channels'"),
    ],
)
def test_what_is_not_understood_is_refused_in_a_sentence_and_left_as_it_was(family, words, tiny_model, tokenizer, untouched):
    model = tiny_model(family)
    with untouched(model), pytest.raises(CompactionError, match=words):
        cut_hidden_size(model, WORDS, size=SIZE, tokenizer=tokenizer, **READ)


@pytest.mark.parametrize("family", ["cohere", "olmo", "nanochat", "bitnet", "zaya", "doge"])
def test_norms_and_streams_of_other_kinds_are_refused(family, tokenizer):
    model = tiny_of_type(family)
    with pytest.raises(CompactionError, match="Take neurons, heads or layers out instead"):
        cut_hidden_size(model, WORDS, size=SIZE, basis="channels", tokenizer=tokenizer, **READ)


@pytest.mark.parametrize("size", [0, 32, 48])
def test_a_size_that_is_no_smaller_is_refused(size, tiny_model, tokenizer):
    with pytest.raises(ConfigError, match="below the hidden size of the model, 32"):
        cut_hidden_size(tiny_model("llama"), WORDS, size=size, tokenizer=tokenizer, **READ)


def test_a_model_that_depends_on_its_width_elsewhere_is_refused(tiny_model, tokenizer, monkeypatch, untouched):
    model = tiny_model("llama")
    layer = type(model.model.layers[0].mlp)
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda self, states: forward(self, states) * self.config.hidden_size**0.5)
    with untouched(model), pytest.raises(CompactionError, match="projected onto 24 directions, but it does not"):
        cut_hidden_size(model, WORDS, size=SIZE, tokenizer=tokenizer, **READ)


def test_a_size_that_the_configuration_does_not_allow_is_refused_with_its_reason(tiny_model, tokenizer):
    with pytest.raises(CompactionError, match=r"hidden size of 30, but it does not \(.*heads.*Try a multiple"):
        cut_hidden_size(tiny_model("llama"), WORDS, size=30, tokenizer=tokenizer, **READ)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft
def test_weights_that_are_not_numbers_and_adapters_are_refused(tiny_model, tokenizer):
    model = tiny_model("llama")
    with pytest.raises(Exception, match="adapter"):
        cut_hidden_size(get_peft_model(deepcopy(model), LoraConfig(target_modules=["q_proj"])), WORDS, size=SIZE, **READ)
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(Exception, match="NaN|does not"):
        cut_hidden_size(model, WORDS, size=SIZE, tokenizer=tokenizer, **READ)


def test_our_own_recipe_and_the_command_write_a_checkpoint_that_loads(taught, tokenizer, tmp_path):
    taught.save_pretrained(tmp_path / "toy")
    tokenizer.save_pretrained(tmp_path / "toy")
    (tmp_path / "words.jsonl").write_text("\n".join(json.dumps({"text": words}) for words in WORDS))
    places = {"model": str(tmp_path / "toy"), "data": str(tmp_path / "words.jsonl"), "size": str(SIZE), "block_size": "32"}
    record = carry_out(read_recipe(RECIPE, places | {"output": str(tmp_path / "out")})).record
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert record["hidden_size_after"] == loaded.config.hidden_size == SIZE < record["hidden_size_before"]
    assert record["parameters_after"] == loaded.num_parameters() < record["parameters_before"]
    test = token_blocks(places["data"], tokenizer, tokens=8_192, part="test", block_size=32)
    assert record["perplexity_after"] == pytest.approx(next_token_metrics(loaded, test, progress=False).perplexity, rel=1e-4)
    command = ["hidden-size", places["model"], "--data", places["data"], "--size", "28", "--set", "block_size=32"]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "smaller")])
    assert done.exit_code == 0, done.output
    assert "A hidden size of" in done.stdout and "from_pretrained loads it anywhere" in done.stdout
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "smaller").config.hidden_size == 28
