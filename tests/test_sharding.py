"""Models that are spread over processes: FSDP2 finds what one process finds, and ZeRO-3 is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fsdp_processes import SETTINGS, measured, removed
from test_removal import random_mask
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from hf_untangle.architecture.forward import in_step, run_body
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.sharding import is_sharded, own_class
from hf_untangle.data.batches import token_blocks
from hf_untangle.errors import ArchitectureError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.unlearn import unlearn

HERE = Path(__file__).parent


def test_zero_is_refused_with_the_ways_out(tiny_model, untouched):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = random_mask(groups)
    model.model.layers[1].mlp.up_proj.weight.ds_id = 7
    message = (
        "DeepSpeed ZeRO-3 has taken `model.layers.1.mlp.up_proj.weight` apart. Load the model without ZeRO, with `device_map=`"
    )
    with untouched(model):
        with pytest.raises(ArchitectureError, match=message):
            neuron_groups(model)
        with pytest.raises(ArchitectureError, match=message):
            remove_(model, mask, groups)


def test_the_first_version_of_fsdp_is_refused(tiny_model):
    model = tiny_model("llama")
    layer = model.model.layers[0]
    layer.__class__ = type("FullyShardedDataParallel", (type(layer),), {})
    with pytest.raises(
        ArchitectureError, match="got `FullyShardedDataParallel`, which is its first version. Use `fully_shard`"
    ):
        neuron_groups(model)


def test_a_model_that_nobody_shares_runs_nothing_for_nothing(tiny_model):
    model, ran = tiny_model("llama"), []
    with in_step(model, range(3), lambda *_: ran.append(1)):
        run_body(model, {"input_ids": torch.ones(1, 2, dtype=torch.long)})
    assert not ran and not is_sharded(model)


def test_the_class_of_a_sharded_model_is_found_again(tiny_model):
    model = tiny_model("llama")
    assert own_class(model) is LlamaForCausalLM
    model.__class__ = type("FSDPLlamaForCausalLM", (LlamaForCausalLM,), {})
    assert own_class(model) is LlamaForCausalLM


@pytest.fixture(scope="module")
def project(project) -> Path:
    """The project, with what two processes with FSDP have found there."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent), "ACCELERATE_USE_CPU": "true"}
    command = [*launcher, str(HERE / "fsdp_processes.py"), str(project)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def alone(project) -> PreTrainedModel:
    """The same model in one process."""
    return AutoModelForCausalLM.from_pretrained(project / "toy").eval()


@pytest.mark.slow
def test_two_processes_measure_and_prune_a_sharded_model_as_one_does_a_whole_one(project, alone, tokenizer):
    blocks = token_blocks(str(project / "numbers.jsonl"), tokenizer, tokens=544, block_size=32).first(5)
    expected = measured(alone, blocks) | removed(alone, blocks)
    for number in range(2):
        found = torch.load(project / f"rank-{number}.pt")
        for name in ("metrics", "masked", "removed"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5)
        for name in ("square", "saliency", "rows"):
            for group, values in expected[name].items():
                torch.testing.assert_close(found[name][group], values, rtol=1e-4, atol=1e-8)
        assert found["bits"] == expected["bits"] and found["undone"]
        assert "some of them are offloaded or sharded. Load the model whole" in found["refusal"]


@pytest.mark.slow
def test_two_processes_unlearn_and_save_a_sharded_model_as_one_does_a_whole_one(project, alone, tokenizer, tmp_path):
    corpora = (str(project / f"{name}.jsonl") for name in ("numbers", "words"))
    result = unlearn(alone, *corpora, tokenizer=tokenizer, progress=False, **SETTINGS)
    assert NeuronMask.load(project / "unlearned" / "mask.safetensors") == result.mask
    saved = AutoModelForCausalLM.from_pretrained(project / "unlearned").state_dict()
    assert all(torch.equal(saved[name], weight) for name, weight in alone.state_dict().items())
