"""Permanent changes are made completely or not at all, and signals wait for them."""

import os
import signal
import threading

import numpy as np
import pytest
import torch
from torch import nn

from hf_untangle.architecture.commit import commit, interrupts_held, keep_values, write_
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.parameters import Edit, write_parameters_
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.errors import ArchitectureError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_


def test_a_write_that_fails_in_the_middle_takes_back_what_was_written():
    model = nn.Linear(3, 2)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    edits = [Edit("weight", (slice(None), torch.tensor([1]))), Edit("bias", (slice(None),), torch.ones(2))]
    with pytest.raises(RuntimeError, match="shape mismatch"):
        write_parameters_(model, [*edits, Edit("bias", (torch.tensor([0]),), torch.ones(5))])
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_an_outer_commit_that_fails_takes_inner_ones_back():
    weight = torch.zeros(2)

    def change(value: float) -> None:
        with commit() as undo:
            keep_values(undo, [weight])
            write_(weight, torch.full((2,), value))

    with pytest.raises(RuntimeError, match="late"), commit():
        change(1.0)
        change(2.0)
        raise RuntimeError("late")
    assert weight.tolist() == [0.0, 0.0]
    change(3.0)
    assert weight.tolist() == [3.0, 3.0]


def test_an_interrupt_during_a_commit_comes_at_its_end_and_takes_it_back():
    weight, reached = torch.zeros(2), []
    # A process that was started in the background ignores Ctrl+C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), commit() as undo:
        keep_values(undo, [weight])
        os.kill(os.getpid(), signal.SIGINT)
        write_(weight, torch.ones(2))
        reached.append(weight.tolist())
    assert reached == [[1.0, 1.0]]
    assert weight.tolist() == [0.0, 0.0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_a_signal_whose_handler_goes_on_leaves_the_commit(monkeypatch):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("asked to end"))
    try:
        weight = torch.zeros(1)
        with commit() as undo:
            keep_values(undo, [weight])
            os.kill(os.getpid(), signal.SIGTERM)
            assert not heard
            write_(weight, torch.ones(1))
        assert heard == ["asked to end"]
        assert weight.item() == 1.0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_threads_write_too():
    done = []

    def work() -> None:
        with interrupts_held():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_removal_that_fails_in_the_middle_leaves_the_model_as_it_was(tiny_model, untouched, monkeypatch):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = NeuronMask.keep_all(groups, "tiny-llama")
    half = mask.with_kept({name: torch.arange(len(kept)) % 2 == 0 for name, kept in mask.items()})
    calls = []

    def failing(tensor: torch.Tensor, edits: list[Edit], zero: int = 0) -> None:
        calls.append(edits)
        if len(calls) == 5:
            raise KeyboardInterrupt
        for edit in edits:
            tensor[edit.index] = zero

    monkeypatch.setattr("hf_untangle.architecture.parameters._edit", failing)
    with untouched(model), pytest.raises(KeyboardInterrupt):
        remove_(model, half, groups)


def test_a_call_that_fails_leaves_no_hook_mode_flag_module_method_or_random_number(tiny_model, untouched):
    model = tiny_model("llama")
    model.train()
    projection = model.model.layers[0].mlp.down_proj
    # Not Python's own generator, from which beartype draws what it checks in tests.
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()

    @all_or_nothing
    def fail(model: nn.Module) -> None:
        projection.register_forward_hook(lambda *_: None)
        projection.forward = lambda x: x
        projection.weight.requires_grad_(False)
        model.eval()
        model.model.layers[0].mlp = nn.Identity()
        model.config.use_cache = not model.config.use_cache
        torch.rand(3), np.random.rand()
        raise KeyboardInterrupt

    use_cache = model.config.use_cache
    with untouched(model), pytest.raises(KeyboardInterrupt):
        fail(model)
    assert model.config.use_cache == use_cache
    assert model.model.layers[0].mlp.down_proj is projection
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.random.get_state()[1].tolist() == state[1]


def test_a_call_that_succeeds_draws_no_random_number_of_the_callers():
    network = nn.Linear(1, 1)

    @all_or_nothing
    def draw(model: nn.Module) -> float:
        return np.random.rand() + torch.rand(()).item()

    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    draw(network)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.random.get_state()[1].tolist() == numpy_before


def test_calls_work_in_inference_mode(tiny_model, blocks):
    model = tiny_model("llama")
    with torch.inference_mode():
        groups = neuron_groups(model)
        mask = NeuronMask.keep_all(groups, "tiny-llama")
        remove_(model, mask.with_kept({name: torch.zeros_like(kept) for name, kept in mask.items()}), groups)
    assert not model.model.layers[0].mlp.down_proj.weight.any()
    model(blocks.input_ids, labels=blocks.input_ids).loss.backward()


def test_weights_that_were_made_in_inference_mode_are_refused(tiny_model):
    with torch.inference_mode():
        model = tiny_model("llama")
    with pytest.raises(ArchitectureError, match="was made in inference mode.*outside"):
        neuron_groups(model)
