"""A model's name or path is taken wherever a model is, and gives the same as the model itself."""

import inspect
import json
from pathlib import Path

import pytest
import torch
from toy_languages import NUMBERS, TOY_CONFIG, WORDS

import hf_untangle as untangle
from hf_untangle.by_name import kind_of, opened
from hf_untangle.data.batches import token_blocks
from hf_untangle.errors import ArchitectureError

SMALL = {"tokens": 1024, "evaluation_tokens": 256, "block_size": 32}


@pytest.fixture(scope="module")
def folder(project) -> Path:
    """The folder of the toy model."""
    return project / "toy"


@pytest.fixture(scope="module")
def blocks(tokenizer):
    """A few blocks of words."""
    return token_blocks(WORDS, tokenizer, tokens=256, block_size=32)


@pytest.fixture(scope="module")
def pruned(unlearned, tmp_path_factory) -> Path:
    """The checkpoint of a model whose neurons were removed."""
    folder = tmp_path_factory.mktemp("pruned")
    unlearned.model.save_pretrained(folder)
    unlearned.tokenizer.save_pretrained(folder)
    return folder


CALLS = {
    "unlearn": lambda m, _: untangle.unlearn(m, NUMBERS, WORDS, config=TOY_CONFIG, steps=1, progress=False).mask,
    "plan": lambda m, _: untangle.plan(m, WORDS, progress=False, **SMALL).mask,
    "prune": lambda m, _: untangle.prune(m, WORDS, progress=False, **SMALL).mask,
    "collect": lambda m, b: untangle.collect(m, b, progress=False).items(),
    "evaluate": lambda m, _: untangle.evaluate(m, WORDS, tokens=256, progress=False).values,
    "compact": lambda m, _: untangle.compact(m).num_parameters(),
    "neuron_groups": lambda m, _: untangle.neuron_groups(m),
    "evaluation.next_token_metrics": lambda m, b: untangle.evaluation.next_token_metrics(m, b, progress=False),
    "density.sweep": lambda m, _: untangle.density.sweep(m, WORDS, progress=False, grid=(0.5,)).density,
    "nets.search_neurons": lambda m, b: untangle.nets.search_neurons(m, b, generations=1, population=4, progress=False).mask,
}
"""What each call gives, as something that compares."""


@pytest.mark.parametrize("name", CALLS)
def test_a_path_gives_what_the_model_gives(name, folder, blocks):
    by_path, by_model = (CALLS[name](one, blocks) for one in (folder, opened(str(folder))))
    assert str(by_path) == str(by_model)


def test_a_path_can_be_masked_removed_from_and_restored(unlearned, folder, tmp_path):
    groups = untangle.neuron_groups(folder)
    with untangle.masked(folder, unlearned.mask) as model:
        assert model.num_parameters() == opened(folder).num_parameters()
    removed = untangle.remove_(str(folder), unlearned.mask, groups)
    assert untangle.compact(removed).num_parameters() < removed.num_parameters()


def test_the_repaired_model_of_a_path_is_that_of_the_record(pruned, unlearned):
    before = opened(pruned).state_dict()
    settings = {"steps": 1, "step_tokens": 64, "block_size": 32, "batch_size": 2, "evaluation_tokens": 128}
    record = untangle.repair(pruned, unlearned.mask, WORDS, progress=False, **settings)
    assert any(not torch.equal(value, before[key]) for key, value in record.model.state_dict().items())
    assert "model" not in json.loads(record.model_dump_json())


def test_a_saved_result_is_attacked_by_its_path(unlearned, tmp_path, folder, no_report, monkeypatch):
    unlearned.save_pretrained(tmp_path / "result")
    monkeypatch.setattr(
        "hf_untangle.attacks.saved.corpus_again", lambda _, use, *__: untangle.corpus({"forget": NUMBERS, "retain": WORDS}[use])
    )
    quick = {"attacks": ["quantize"], "seeds": 1, "evaluation_tokens": 128, "block_size": 32, "progress": False}
    by_path = untangle.attack(tmp_path / "result", original=folder, **quick).record
    assert by_path.base == untangle.attack(unlearned, original=folder, **quick).record.base


TAKE_A_MODEL = ("unlearn", "plan", "prune", "collect", "evaluate", "compact", "neuron_groups", "masked", "remove_", "repair")


@pytest.mark.parametrize("name", [*TAKE_A_MODEL, "restore", "attack"])
def test_every_public_call_that_takes_a_model_says_that_it_takes_its_name(name):
    (first, *_) = inspect.signature(getattr(untangle, name)).parameters.values()
    assert "str" in str(first.annotation)


@pytest.mark.parametrize(
    ("architectures", "kind"),
    [
        (["LlamaForCausalLM"], "causal-lm"),
        (["BertForMaskedLM"], "masked-lm"),
        (["ViTForImageClassification"], "image-classifier"),
        ([], "causal-lm"),
        (["BartForConditionalGeneration"], "causal-lm"),
    ],
)
def test_the_configuration_says_what_a_model_predicts(architectures, kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": architectures}))
    assert kind_of(str(tmp_path)) == kind


def test_a_name_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ArchitectureError, match="could not be loaded"):
        untangle.neuron_groups(str(tmp_path / "nothing"))
