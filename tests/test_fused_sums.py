"""Sums by compiled code: the same as by tensor operations, and only where they can be had."""

import shutil

import pytest
import torch
from torch import Tensor

from hf_untangle.statistics import fused_sums
from hf_untangle.statistics.fused_sums import FLAGS, fused_sums_
from hf_untangle.statistics.moments import MomentAccumulator

TOKENS, NEURONS = 1031, 320
builds = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in FLAGS or shutil.which("cc") is None,
    reason="this machine has no C compiler, or no vector units that the code is for",
)


@pytest.fixture(autouse=True)
def compiled_anew(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fused_sums._functions.cache_clear()
    yield
    fused_sums._functions.cache_clear()
    torch.set_num_threads(threads)


def some_activations(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(TOKENS, NEURONS, generator=generator) * torch.logspace(-3, 3, NEURONS) + torch.linspace(-50, 50, NEURONS)
    z[:, :3] = 0
    return z.to(dtype)


@builds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("view", ["whole", "columns", "one token in two"])
def test_compiled_sums_are_those_of_every_activation(dtype, view):
    z = some_activations(dtype).repeat(4, 1)
    z = {"whole": z, "columns": z.repeat(1, 2)[:, 64:384], "one token in two": z[::2]}[view]
    shift = z[::100].float().mean(0)
    partial = torch.ones(4, z.shape[1], dtype=torch.float64)
    assert fused_sums_(partial, z, shift)
    exact, apart = z.double(), z.double() - shift.double()
    sums = (apart.sum(0), apart.square().sum(0), exact.clamp_min(0).sum(0), (exact > 0).double().sum(0))
    sizes = (apart.abs().sum(0), apart.square().sum(0), exact.abs().sum(0), torch.ones(z.shape[1]))
    for mine, theirs, size in zip(partial - 1, sums, sizes, strict=True):
        assert ((mine - theirs).abs() <= 1e-6 * size).all()


@builds
def test_an_accumulator_gives_the_same_moments_either_way(monkeypatch):
    z = some_activations(torch.bfloat16)
    found = []
    for patched in (False, True):
        with monkeypatch.context() as patch:
            if patched:
                patch.setattr("hf_untangle.statistics.moments.fused_sums_", lambda *_: False)
            sums = MomentAccumulator(NEURONS, torch.device("cpu"))
            sums.update(z)
            sums.update(z[:900])
            found.append(sums.result())
    for name, value in found[0].tensors().items():
        torch.testing.assert_close(value, found[1].tensors()[name], rtol=1e-5, atol=1e-4)


@builds
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen(value):
    z = some_activations(torch.float32)
    z[-1, -1] = value
    sums = MomentAccumulator(NEURONS, torch.device("cpu"))
    sums.update(z)
    assert not sums.result().is_finite()


@pytest.mark.parametrize(
    "z",
    [
        torch.ones(8, 64),
        torch.ones(TOKENS, NEURONS + 1),
        torch.ones(TOKENS, NEURONS, dtype=torch.float16),
        torch.ones(NEURONS, TOKENS + 57).T[:, :256],
    ],
    ids=["few", "no whole tiles", "another dtype", "rows apart"],
)
def test_what_the_code_does_not_read_is_left_to_tensor_operations(z):
    partial = torch.zeros(4, z.shape[1], dtype=torch.float64)
    assert not fused_sums_(partial, z, torch.zeros(z.shape[1])) and not partial.any()


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_compiler_that_works_sums_are_made_of_tensor_operations(compiler, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    z = some_activations(torch.float32)
    assert not fused_sums_(torch.zeros(4, NEURONS, dtype=torch.float64), z, torch.zeros(NEURONS))
    sums = MomentAccumulator(NEURONS, torch.device("cpu"))
    sums.update(z)
    torch.testing.assert_close(sums.result().total, z.double().sum(0), rtol=1e-5, atol=1e-3)


def test_with_many_threads_tensor_operations_are_faster(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: fused_sums.MOST_THREADS + 1)
    z = some_activations(torch.float32)
    assert not fused_sums_(torch.zeros(4, NEURONS, dtype=torch.float64), z, torch.zeros(NEURONS))
