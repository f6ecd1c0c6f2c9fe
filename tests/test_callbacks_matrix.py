"""All callbacks in all conditions of a training: each cell trains a tiny model for a few steps."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from callback_runs import ACTING, CALLBACKS, STEPS, WATCHING, Finished, hooks, removed_are_zero, train

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # by peft
    pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning"),
]

SAVING = {"save_strategy": "steps", "save_steps": 2}
BEST = SAVING | {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}
BEST |= {"metric_for_best_model": "eval_loss", "greater_is_better": True, "lr_scheduler_type": "constant"}
"""The worst model is the best one, so that it is the first checkpoint and not the last."""
CONDITIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    "evaluation": {"eval_strategy": "steps", "eval_steps": 1},
    "reentrant": {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}},
    "not reentrant": {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False}},
    "bf16": {"bf16": True},
    "lora": {"lora": True},
}
COMPILED = {name: {"torch_compile": True, "torch_compile_backend": name} for name in ("eager", "aot_eager")}
QUICK = {"eager": "entropy", "aot_eager": "statistics"}
"""The callback that each compiler is tried with in the fast suite: compiling takes seconds."""


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """A run without any callback in some condition, which is trained once."""

    @cache
    def trained(condition: str) -> Finished:
        return train(tmp_path_factory.mktemp("without"), **(CONDITIONS | COMPILED)[condition])

    return trained


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def steps(finished: Finished) -> list[int]:
    """The steps at which something was logged."""
    return sorted({entry["step"] for entry in finished.logged})


def check(name: str, finished: Finished, plain: Finished, condition: str) -> None:
    """What every run with a callback must be, whatever the condition."""
    what = "entropy" if name == "removal" else name
    assert all(key.startswith(f"untangle/{what}/") for entry in finished.logged for key in entry if "/" in key)
    before = [0] if name in ("unlearn", "translation") else []
    each = range(1, STEPS + 1) if what == "entropy" and condition == "evaluation" else (2, 4)
    assert steps(finished) == ([] if name == "mask" else [*before, *each])
    assert hooks(finished.model) == hooks(plain.model)
    if name in WATCHING:
        assert same(finished.weights(), plain.weights())
    elif name == "nets":
        assert 0 < finished.callback.mask.removed() < finished.callback.mask.neurons()
    else:
        assert finished.callback.mask.removed() > 0
        assert removed_are_zero(finished)
        assert not same(finished.weights(), plain.weights())


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_works_in_every_condition(name, condition, tokenizer, without, tmp_path):
    finished = train(tmp_path, CALLBACKS[name], tokenizer, **CONDITIONS[condition])
    check(name, finished, without(condition), condition)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        pytest.param(name, backend, marks=() if QUICK[backend] == name else pytest.mark.slow)
        for backend in COMPILED
        for name in CALLBACKS
    ],
)
def test_a_callback_works_on_a_compiled_model(name, backend, tokenizer, without, tmp_path):
    torch.compiler.reset()
    finished = train(tmp_path, CALLBACKS[name], tokenizer, **COMPILED[backend])
    check(name, finished, without(backend), backend)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same folder", "another folder"])
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_resumed_run_ends_and_has_logged_as_the_unbroken_one(name, elsewhere, tokenizer, tmp_path):
    whole = train(tmp_path / "whole", CALLBACKS[name], tokenizer, **SAVING)
    folder = tmp_path / "other" if elsewhere else tmp_path / "whole"
    checkpoint = str(tmp_path / "whole" / "checkpoint-2")
    resumed = train(folder, CALLBACKS[name], tokenizer, resume=checkpoint, seed=1, **SAVING)
    assert same(resumed.weights(), whole.weights())
    assert resumed.logged == whole.logged
    if name in ACTING:
        assert resumed.callback.mask == whole.callback.mask
    if name == "statistics":
        assert resumed.callback.statistics.corpora == whole.callback.statistics.corpora
        for group, sums in resumed.callback.statistics.items():
            assert torch.equal(sums.square, whole.callback.statistics[group].square)


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        pytest.param(name, lora, marks=pytest.mark.slow if lora and name != "removal" else ())
        for lora in (False, True)
        for name in CALLBACKS
    ],
)
def test_a_callback_agrees_with_the_best_model_that_is_loaded_at_the_end(name, lora, tokenizer, tmp_path):
    settings = BEST | {"lora": lora, "learning_rate": 1e-3}
    finished = train(tmp_path, CALLBACKS[name], tokenizer, **settings)
    until = {"max_steps": finished.trainer.state.best_global_step}
    assert until["max_steps"] < STEPS
    again = train(tmp_path / "again", CALLBACKS[name], tokenizer, **settings | until)
    assert same(finished.weights(), again.weights())
    if name in ACTING:
        assert finished.callback.mask == again.callback.mask
    if name in ("mask", "removal"):
        assert removed_are_zero(finished)


@pytest.fixture(scope="module")
def ranks(tokenizer, forked, tmp_path_factory) -> list[dict[str, Any]]:
    """What two processes saw that trained with each of the callbacks, on batches of their own: one launch."""
    folder = tmp_path_factory.mktemp("processes")
    tokenizer.save_pretrained(folder / "tokenizer")
    done = forked(folder, Path(__file__).parent / "callback_runs.py", folder, ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_works_in_two_processes(name, ranks):
    one, other = (each[name] for each in ranks)
    assert one == other
    assert one["hooks"] == 0
    before = [0] if name in ("unlearn", "translation") else []
    assert sorted({entry["step"] for entry in one["logged"]}) == ([] if name == "mask" else [*before, 2, 4])
    if name in WATCHING:
        assert one["weights"] == ranks[0]["without"]["weights"]
    elif name != "nets":
        assert one["zero"]
        assert any(not all(kept) for kept in one["mask"].values())
