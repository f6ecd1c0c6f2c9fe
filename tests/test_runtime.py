"""The machine at hand decides in which dtype a model is computed, where nothing else was said."""

import contextlib
import logging
import platform
from pathlib import Path

import pytest
import torch

from hf_untangle import models, runtime
from hf_untangle.architecture.inference_mode import frozen
from hf_untangle.runtime import fast_dtype, release_unused_memory
from hf_untangle.statistics.fingerprint import weights_fingerprint


@pytest.mark.parametrize(
    ("units", "device", "own", "expected"),
    [
        (True, "cpu", torch.bfloat16, torch.bfloat16),
        (True, "cpu", torch.float32, torch.float32),
        (True, "cpu", None, torch.bfloat16),
        (False, "cpu", torch.bfloat16, torch.float32),
        (False, "cpu", torch.float16, torch.float32),
        (False, "cpu", torch.float32, torch.float32),
        (False, "cpu", torch.float64, torch.float64),
        (False, "cpu", None, torch.float32),
        (False, "cuda", torch.float16, torch.float16),
        (False, "cuda", None, torch.bfloat16),
    ],
)
def test_16_bits_are_for_devices_that_are_fast_in_them(monkeypatch, units, device, own, expected):
    monkeypatch.setattr(runtime, "has_matrix_units", lambda: units)
    assert fast_dtype(device, own) == expected


def test_the_processor_is_timed_once_in_a_process(monkeypatch):
    seconds = iter([3.0, 1.0])
    monkeypatch.setattr(runtime, "_seconds", lambda matrix: next(seconds))
    runtime.has_matrix_units.cache_clear()
    assert runtime.has_matrix_units() and runtime.has_matrix_units()
    runtime.has_matrix_units.cache_clear()


@pytest.mark.parametrize(
    ("units", "dtype", "expected"),
    [(False, "auto", "float32"), (True, "auto", "bfloat16"), (False, "checkpoint", "bfloat16"), (True, "float32", "float32")],
)
def test_a_checkpoint_is_loaded_in_the_dtype_that_is_fast_unless_told_otherwise(
    monkeypatch, tiny_model, tokenizer, tmp_path, caplog, units, dtype, expected
):
    tiny_model("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(runtime, "has_matrix_units", lambda: units)
    with caplog.at_level(logging.INFO, logger="hf_untangle"):
        model, _ = models.load(str(tmp_path), dtype=dtype)
    assert str(model.dtype) == f"torch.{expected}"
    assert ("Computing in float32" in caplog.text) == (not units and dtype == "auto")


@pytest.mark.parametrize("units", [True, False])
def test_a_dequantized_model_is_the_same_whoever_chose_its_dtype(monkeypatch, tiny_model, tokenizer, tmp_path, units):
    tiny_model("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(runtime, "has_matrix_units", lambda: units)
    monkeypatch.setitem(models.EMBEDDED, "dequantized", models.EMBEDDED["smollm2"])
    monkeypatch.setattr(models, "checkpoint_of", lambda name: contextlib.nullcontext(str(tmp_path)))
    chosen, _ = models.load("dequantized")
    told, _ = models.load("dequantized", dtype="bfloat16" if units else "float32")
    assert chosen.dtype == told.dtype and weights_fingerprint(chosen) == weights_fingerprint(told)
    rotary = dict(chosen.named_buffers())["model.rotary_emb.inv_freq"]
    assert rotary.dtype == torch.float32, "positions are as exact as they were"


def test_frozen_asks_for_no_gradient_and_leaves_what_asked_as_it_was(tiny_model):
    model = tiny_model("llama")
    model.get_input_embeddings().weight.requires_grad_(False)
    before = {name: one.requires_grad for name, one in model.named_parameters()}
    with pytest.raises(KeyboardInterrupt), frozen(model):
        assert not any(one.requires_grad for one in model.parameters())
        raise KeyboardInterrupt
    assert {name: one.requires_grad for name, one in model.named_parameters()} == before
    assert set(before.values()) == {True, False}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_between_tensors_that_live_on_goes_back_to_the_system():
    # Pieces too small to be mapped by themselves, every hundredth of which stays and holds the heap open.
    pieces = [torch.ones(16_384) for _ in range(4_000)]
    kept = pieces[::100]
    del pieces
    before = resident()
    release_unused_memory()
    assert before - resident() > 2_000 * 65_536
    assert all(bool((one == 1).all()) for one in kept)


def test_where_the_c_library_is_another_nothing_happens(monkeypatch):
    monkeypatch.setattr(runtime, "_malloc_trim", lambda: None)
    release_unused_memory()


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
