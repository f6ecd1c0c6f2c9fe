"""Masks that evolve while a model is trained, in real Trainer runs."""

from copy import deepcopy

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from hf_untangle.callbacks.nets import NetsCallback
from hf_untangle.errors import ConfigError

SEARCH = {"population": 6, "density": 0.7, "grow": 0.05, "shrink": 0.02, "batch_size": 4, "sparsity_weight": 1.0}


@pytest.fixture
def train(toy_model, pairs, tmp_path):
    """Train the toy model on the words for a few steps."""
    rows = pairs[0].retain.input_ids[:32]

    def run(retain, *, every=2, steps=12, save_steps=100, logging_steps=1000, resume=None, model=toy_model):
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "run"),
            max_steps=steps,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=1e-3,
            save_steps=save_steps,
            logging_steps=logging_steps,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=0,
        )
        data = Dataset.from_dict({"input_ids": rows.tolist(), "labels": rows.tolist()}).with_format("torch")
        trainer = Trainer(model, arguments, train_dataset=data)
        trainer.add_callback(callback := NetsCallback(trainer, retain, every=every, **SEARCH))
        trainer.train(resume_from_checkpoint=resume)
        return trainer, callback

    return run


def hooks_of(model) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


def test_masks_evolve_and_are_logged_while_training_goes_on(train, toy_model, pairs):
    before = toy_model.model.layers[0].mlp.down_proj.weight.clone()
    trainer, callback = train(pairs[0].retain)
    logged = [row for row in trainer.state.log_history if "untangle/nets/fitness" in row]
    assert [row["step"] for row in logged] == [2, 4, 6, 8, 10, 12]
    assert 0 < callback.mask.removed() < callback.mask.neurons()
    assert not torch.equal(before, toy_model.model.layers[0].mlp.down_proj.weight)
    assert hooks_of(toy_model) == 0


def test_training_runs_under_the_mask(train, toy_model, pairs):
    """Columns of neurons that no mask of the run ever keeps get no gradient, and without weight decay do not move."""
    weights = {name: one.clone() for name, one in toy_model.state_dict().items()}
    _, callback = train(pairs[0].retain, every=100, steps=4)
    for name, kept in callback.mask.items():
        moved = (toy_model.get_submodule(name).weight != weights[f"{name}.weight"]).any(0)
        assert not moved[~kept].any()
        assert moved[kept].any()


def test_a_resumed_run_goes_on_with_its_population(train, taught, pairs, tmp_path):
    _, whole = train(pairs[0].retain, steps=8, save_steps=4, model=deepcopy(taught))
    _, resumed = train(pairs[0].retain, steps=8, resume=str(tmp_path / "run" / "checkpoint-4"), model=deepcopy(taught))
    assert resumed.mask == whole.mask


def test_settings_are_checked_before_any_training(pairs, toy_model, tmp_path):
    trainer = Trainer(toy_model, TrainingArguments(str(tmp_path), report_to=[], use_cpu=True))
    with pytest.raises(ConfigError, match="no setting `evry`"):
        NetsCallback(trainer, pairs[0].retain, evry=2)


def test_the_trainers_own_loss_is_logged_at_the_same_steps(train, pairs):
    trainer, _ = train(pairs[0].retain, steps=4, logging_steps=2)
    assert [row["step"] for row in trainer.state.log_history if "loss" in row] == [2, 4]
