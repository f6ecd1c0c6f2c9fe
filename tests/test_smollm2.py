"""The real embedded SmolLM2-135M-Instruct: code goes, prose stays, and anyone can load what is left."""

import os
import subprocess
import sys

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.evaluation.generation import continuations
from hf_untangle.results.unlearned import UnlearnResult

pytestmark = pytest.mark.slow

PROMPTS = ["def fibonacci(n):\n", "The history of the Roman Empire began when"]
CONFIG = UnlearnConfig().with_settings(
    tokens=8192, evaluation_tokens=4096, ffn_fraction=0.02, attention_fraction=0.005, steps=2
)

LOAD = """
import sys
sys.modules["hf_untangle"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
inputs = tokenizer(sys.argv[2], return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=20, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


@pytest.fixture(autouse=True)
def cache(shared_cache) -> None:
    """The cache that tests share, instead of one per test: the model is dequantized once."""


@pytest.fixture(scope="module")
def loaded(shared_cache) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model as it comes, and its tokenizer."""
    return models.load("smollm2", dtype="bfloat16")


@pytest.fixture(scope="module")
def result(shared_cache) -> UnlearnResult:
    """Two steps away from code, with prose to keep."""
    model, tokenizer = models.load("smollm2", dtype="bfloat16")
    code, prose = (untangle.corpus(name, prefer="embedded") for name in ("code", "general"))
    return untangle.unlearn(model, code, prose, tokenizer=tokenizer, config=CONFIG, prompts=PROMPTS, progress=False)


def test_the_embedded_model_is_an_ordinary_checkpoint_under_its_own_name(loaded):
    model, tokenizer = loaded
    assert model.name_or_path == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (model.dtype, model.num_parameters()) == (torch.bfloat16, 134_515_008)
    assert not hasattr(model.config, "quantization_config")
    assert tokenizer.decode(tokenizer("def f(x):")["input_ids"]) == "def f(x):"


def test_its_groups_are_an_attention_and_an_ffn_in_each_of_thirty_layers(loaded):
    groups = untangle.neuron_groups(loaded[0])
    assert [(group.kind, group.layer) for group in groups] == [(kind, n) for n in range(30) for kind in ("attention", "ffn")]
    attention, ffn = groups[58:]
    assert attention.name == "model.layers.29.self_attn.o_proj"
    assert (attention.size, attention.heads, attention.key_value_heads) == (576, 9, 3)
    assert (ffn.size, [producer.name.rpartition(".")[2] for producer in ffn.producers]) == (1536, ["gate_proj", "up_proj"])


def test_it_knows_some_code_and_some_prose(loaded):
    model, tokenizer = loaded
    text = continuations(model, tokenizer, ["The capital of France is", "for i in"], max_new_tokens=5)
    assert "Paris" in text[0]
    assert "range" in text[1]


def test_code_falls_much_more_than_prose_and_much_more_than_under_a_random_mask(result):
    test = result.record.test
    assert test.before.forget.top1 > 0.4 and test.before.retain.top1 > 0.25
    assert test.after.forget_drop(test.before) > 0.5
    assert test.after.retain_drop(test.before) < 0.1
    assert test.controls[0].forget_drop(test.before) < test.after.forget_drop(test.before) / 2
    assert test.controls[0].selectivity(test.before) < test.after.selectivity(test.before) / 4


def test_it_no_longer_continues_code_as_it_did(result):
    code, prose = result.record.continuations
    assert "return" in code.before
    assert "return" not in code.after
    assert prose.after.strip()


def test_a_process_without_this_package_loads_what_is_left_and_writes_the_same(result, tmp_path):
    folder = result.save_pretrained(tmp_path / "out", license="apache-2.0")
    ran = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), PROMPTS[1]],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    expected = continuations(result.model, result.tokenizer, PROMPTS[1:], max_new_tokens=20)
    assert ran.stdout.strip() == expected[0].strip()
    assert "apache-2.0" in (folder / "README.md").read_text()
