"""Compiled models: neurons are seen and masked there too, and hooks break no graph when they are compiled themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.statistics.collect import collect


def whole(model: nn.Module) -> nn.Module:
    model.compile(backend="aot_eager")
    return model


def by_layer(model: nn.Module) -> nn.Module:
    for layer in model.model.layers:
        layer.compile(backend="aot_eager")
    return model


def body(model: nn.Module) -> nn.Module:
    model.model.compile(backend="aot_eager")
    return model


@pytest.fixture(params=[by_layer, *(pytest.param(one, marks=pytest.mark.slow) for one in (whole, body))])
def compiled(request, tiny_model, blocks):
    """A model that was compiled in one way or another, and has run before any hook was on it."""
    torch.compiler.reset()
    model = request.param(tiny_model("llama"))
    with torch.no_grad():
        model(blocks.input_ids, use_cache=False)
    yield model
    torch.compiler.reset()


@pytest.fixture(scope="module")
def half(tiny_model) -> NeuronMask:
    groups = neuron_groups(tiny_model("llama"))
    return NeuronMask.keep_all(groups, "").with_kept({group.name: torch.arange(group.size) % 2 > 0 for group in groups})


def test_a_compiled_model_gives_the_statistics_of_the_plain_one(compiled, tiny_model, blocks):
    expected = collect(tiny_model("llama"), blocks, progress=False)
    found = collect(compiled, blocks, progress=False)
    for name, moments in expected.items():
        for field, value in moments.tensors().items():
            assert torch.equal(found[name].tensors()[field], value)


def test_a_mask_silences_neurons_of_a_compiled_model_and_only_inside_the_block(compiled, tiny_model, blocks, half):
    plain = tiny_model("llama")
    with torch.no_grad():
        before = compiled(blocks.input_ids, use_cache=False).logits
        with masked(plain, half), masked(compiled, half):
            expected, found = (one(blocks.input_ids, use_cache=False).logits for one in (plain, compiled))
            metrics = [next_token_metrics(one, blocks, progress=False) for one in (plain, compiled)]
        after = compiled(blocks.input_ids, use_cache=False).logits
    assert torch.equal(found, expected) and metrics[0] == metrics[1]
    assert not torch.allclose(before, found, atol=1e-3)
    assert torch.equal(before, after)


def test_a_mask_on_a_model_is_seen_by_the_compiled_model_around_it(tiny_model, blocks, half):
    torch.compiler.reset()
    model = tiny_model("llama")
    around = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        around(blocks.input_ids, use_cache=False)
        with masked(model, half):
            assert torch.equal(around(blocks.input_ids).logits, model(blocks.input_ids).logits)
    assert [group.name for group in neuron_groups(around)] == [group.name for group in neuron_groups(model)]


IN_ONE_GRAPH = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.statistics.accumulators import observed
from hf_untangle.statistics.accumulators import GroupSums

torch.manual_seed(0)
shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
model = LlamaForCausalLM(LlamaConfig(vocab_size=256, num_key_value_heads=2, **shape)).eval()
ids = torch.randint(256, (6, 12))
groups = neuron_groups(model)
mask = NeuronMask.keep_all(groups, "").with_kept({group.name: torch.arange(group.size) % 2 > 0 for group in groups})

def compiled(model):
    return torch.compile(model, fullgraph=True, backend="aot_eager")

def add_to(sums):
    return lambda group, reading: sums.add(group, reading.values.flatten(0, -2), reading.neurons)

def check(run):
    sums = GroupSums(groups, roots=True)
    with observed(model, groups, add_to(sums)), torch.compiler.set_stance("default"), torch.inference_mode():
        sums.whole(lambda batch: run(model.base_model)(batch, use_cache=False))(ids)
    return sums.results(72)

for name, moments in check(lambda body: body).items():
    for field, value in moments.tensors().items():
        torch.testing.assert_close(check(compiled)[name].tensors()[field], value, msg=f"{name} {field}")
with masked(model, mask), torch.compiler.set_stance("default"), torch.inference_mode():
    torch.testing.assert_close(compiled(model)(ids, use_cache=False).logits, model(ids, use_cache=False).logits)
"""


@pytest.mark.slow
def test_hooks_that_are_compiled_with_the_model_break_no_graph(tmp_path):
    # In a process of its own, as the types that tests check while they run are what a graph does break at.
    script = tmp_path / "in_one_graph.py"
    script.write_text(IN_ONE_GRAPH)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
