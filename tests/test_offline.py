"""Without a network: a name that is not there is said at once, and a cache that cannot be used is only slower."""

import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from hf_untangle import models
from hf_untangle.data.image_classes import image_classes
from hf_untangle.errors import UntangleError
from hf_untangle.folders import MARKER
from hf_untangle.hub import reachable
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.recipes.model_size import bare_model


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A Hub that nobody listens at."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


LOADS = {
    "model": lambda: models.load("nobody/nothing"),
    "masked language model": lambda: models.load("nothing", kind="masked-lm"),
    "classifier": lambda: models.load_classifier("nobody/nothing"),
    "dry run": lambda: bare_model("nobody/nothing"),
    "mask": lambda: NeuronMask.from_pretrained("nobody/nothing"),
    "images": lambda: image_classes("nobody/nothing:0,1"),
}


@pytest.mark.parametrize("name", LOADS)
def test_a_name_that_is_not_there_is_said_in_a_second(name):
    start = time.perf_counter()
    with pytest.raises(UntangleError, match="nobody/nothing|`nothing`"):
        LOADS[name]()
    assert time.perf_counter() - start < 1
    assert not constants.HF_HUB_OFFLINE


def test_a_folder_is_loaded_without_asking_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(reachable, "_ask", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(UntangleError, match="but it could not be loaded"):
        models.load(str(tmp_path))


@pytest.fixture
def dequantized(saved, monkeypatch) -> list[Path]:
    """Where the embedded model was dequantized to; a small one stands in for it."""
    folders: list[Path] = []

    def dequantize(_: object, folder: Path) -> None:
        folders.append(folder)
        for file in saved.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / MARKER).write_text("{}")

    monkeypatch.setattr(models, "dequantize", dequantize)
    monkeypatch.setattr(models, "readable_folder", lambda _: Path())
    return folders


@pytest.fixture
def saved(project) -> Path:
    return project / "toy"


def test_where_the_cache_cannot_be_written_the_embedded_model_is_made_for_one_call(dequantized, cache, caplog):
    cache.write_text("a file instead of the folder")
    models.load("smollm2")
    assert "dequantized for this call alone, as the cache cannot be used" in caplog.text
    assert len(dequantized) == 1 and not dequantized[0].exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_embedded_model_in_the_cache_is_made_anew(dequantized, cache, caplog, name):
    models.load("smollm2")
    (cache / "SmolLM2-135M-Instruct" / name).write_bytes(b"{damaged")
    models.load("smollm2")
    assert "is dequantized again, as its checkpoint in the cache cannot be read" in caplog.text
    assert len(dequantized) == 2
    models.load("smollm2")
    assert len(dequantized) == 2
