"""Removed neurons stay removed through training, whatever the optimizer, the adapter and the number of processes."""

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from torch import nn
from trainers import a_trainer
from transformers import TrainerCallback

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.callbacks.mask import MaskCallback
from hf_untangle.errors import MaskError
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.select import random_like


def half_mask(groups) -> NeuronMask:
    """About half of the neurons of every group go, so that some value rows lose only some of their query heads."""
    kept = {group.name: torch.arange(group.size) < group.size // 2 for group in groups}
    return random_like(NeuronMask.keep_all(groups, "m").with_kept(kept), seed=3)


def zeros_of(model, mask, groups) -> bool:
    """Tell whether everything that belongs to removed neurons is exactly zero."""
    return all_zero(held_parameters(model, mask, groups))


class ZeroAfterEveryStep(TrainerCallback):
    """Writes down, after every step, whether everything that belongs to removed neurons was zero."""

    def __init__(self, mask, groups) -> None:
        self.mask, self.groups, self.seen = mask, groups, []

    def on_step_end(self, args, state, control, model: nn.Module, optimizer=None, **kwargs):
        held = held_parameters(model, self.mask, self.groups)
        states = [optimizer.state.get(part.parameter, {}) for part in held]
        moments = [
            value[part.entries]
            for part, state in zip(held, states, strict=True)
            for value in state.values()
            if isinstance(value, torch.Tensor) and value.shape == part.parameter.shape
        ]
        self.seen.append((zeros_of(model, self.mask, self.groups), not any(moment.any() for moment in moments), len(moments)))


def held(model, folder, mask, *callbacks, **settings):
    """A trainer that holds what a mask removes at zero, and then runs other callbacks."""
    trainer = a_trainer(model, folder, **settings)
    for callback in (MaskCallback(trainer, mask), *callbacks):
        trainer.add_callback(callback)
    return trainer


@pytest.fixture
def removed(tiny_model):
    """A tiny model of a family with half of its neurons removed, its mask and its groups."""

    def make(family="llama"):
        model = tiny_model(family)
        groups = neuron_groups(model)
        mask = half_mask(groups)
        return remove_(model, mask, groups), mask, groups

    return make


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "phi3"], indirect=True)
@pytest.mark.parametrize("optimizer", ["adamw_torch", "sgd"])
def test_removed_neurons_are_zero_after_every_step_and_the_rest_learns(removed, family, optimizer, tmp_path):
    model, mask, groups = removed(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    watch = ZeroAfterEveryStep(mask, groups)
    held(model, tmp_path, mask, watch, optim=optimizer, gradient_accumulation_steps=2).train()
    assert [zero for zero, _, _ in watch.seen] == [True] * 4
    assert all(empty for _, empty, _ in watch.seen)
    for group in groups:
        assert not torch.equal(model.state_dict()[f"{group.name}.weight"], before[f"{group.name}.weight"])


def test_without_the_callback_columns_of_shared_value_rows_grow_back(removed, tmp_path):
    model, mask, groups = removed()
    assert zeros_of(model, mask, groups)
    a_trainer(model, tmp_path).train()
    assert not zeros_of(model, mask, groups)


def test_the_state_of_the_optimizer_has_nothing_of_removed_neurons(removed, tmp_path):
    model, mask, groups = removed()
    watch = ZeroAfterEveryStep(mask, groups)
    held(model, tmp_path, mask, watch).train()
    assert watch.seen == [(True, True, watch.seen[0][2])] * 4
    assert watch.seen[0][2] >= 2 * len(held_parameters(model, mask, groups)), "both moments of Adam, of every slice"


def test_neurons_that_were_only_masked_are_removed_when_training_begins(tiny_model, tmp_path):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    mask = half_mask(groups)
    held(model, tmp_path, mask, max_steps=1).train()
    assert zeros_of(model, mask, groups)


def test_a_resumed_run_ends_like_one_that_was_not_stopped(removed, tmp_path):
    whole, mask, groups = removed()
    held(whole, tmp_path / "whole", mask).train()

    stopped, _, _ = removed()
    saving = {"save_strategy": "steps", "save_steps": 2}
    held(stopped, tmp_path / "run", mask, **saving).train()
    resumed, _, _ = removed()
    watch = ZeroAfterEveryStep(mask, groups)
    trainer = held(resumed, tmp_path / "run", mask, watch, **saving)
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert [zero for zero, _, _ in watch.seen] == [True, True]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value)


def test_a_checkpoint_in_which_neurons_had_grown_back_is_cut_again(removed, tmp_path):
    model, mask, groups = removed()
    saving = {"save_strategy": "steps", "save_steps": 2}
    a_trainer(model, tmp_path, **saving).train()
    watch = ZeroAfterEveryStep(mask, groups)
    resumed, _, _ = removed()
    trainer = held(resumed, tmp_path, mask, watch, **saving)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [zero for zero, _, _ in watch.seen] == [True, True], "although the optimizer remembers gradients of removed neurons"


pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft


def lora(**settings) -> LoraConfig:
    """An adapter whose product is not zero from the beginning."""
    return LoraConfig(r=4, target_modules="all-linear", **{"init_lora_weights": False} | settings)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "phi3"], indirect=True)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
def test_the_weights_are_zero_after_a_lora_is_merged(removed, family, tmp_path):
    model, mask, groups = removed(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = get_peft_model(model, lora())
    held(adapted, tmp_path, mask).train()
    merged = adapted.merge_and_unload()
    assert zeros_of(merged, mask, groups)
    for group in groups:
        assert not torch.equal(merged.state_dict()[f"{group.name}.weight"], before[f"{group.name}.weight"])


def test_without_the_callback_a_lora_writes_into_removed_neurons(removed, tmp_path):
    model, mask, groups = removed()
    adapted = get_peft_model(model, lora())
    a_trainer(adapted, tmp_path).train()
    assert not zeros_of(adapted.merge_and_unload(), mask, groups)


def test_neurons_are_found_below_an_adapter_by_the_names_they_have_without_it(tiny_model):
    model = tiny_model("llama")
    plain = neuron_groups(model)
    below = neuron_groups(get_peft_model(model, lora()))
    assert [group.name for group in below] == [group.name for group in plain]
    assert [[producer.name for producer in group.producers] for group in below] == [
        [producer.name for producer in group.producers] for group in plain
    ]


@pytest.mark.parametrize(
    ("adapter", "kind"),
    [(lora(use_dora=True, init_lora_weights=True), "lora"), (IA3Config(target_modules=["down_proj"]), "ia3")],
)
def test_other_adapters_than_lora_are_refused(removed, adapter, kind, tmp_path):
    model, mask, _ = removed()
    trainer = a_trainer(get_peft_model(model, adapter), tmp_path)
    with pytest.raises(MaskError, match=f"held at zero, under LoRA adapters alone, but .* carries a {kind} layer of another"):
        MaskCallback(trainer, mask)


def test_a_mask_of_another_model_is_refused_before_any_training(removed, tiny_model, tmp_path, untouched):
    _, mask, _ = removed()
    other = tiny_model("gpt2")
    trainer = a_trainer(other, tmp_path)
    with untouched(other), pytest.raises(MaskError, match="no such projection. Use the mask with its own model"):
        MaskCallback(trainer, mask)
