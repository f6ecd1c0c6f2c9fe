"""Unlearning by the Trainer of transformers: what it learns from, what it leaves alone, what it refuses."""

from copy import deepcopy

import pytest
import torch
from toy_languages import NUMBERS, WORDS

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import token_blocks
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import zeros_of
from hf_untangle.methods.trainer import UnlearnArguments, UnlearnTrainer

QUIET = {
    "use_cpu": True,
    "max_steps": 6,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
    "logging_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "max_length": 32,
    "max_rows": 64,
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture
def trainer(toy_model, tokenizer, tmp_path):
    """A trainer that takes numbers from the toy model, unless told otherwise."""

    def make(data=None, *, model=toy_model, peft_config=None, neurons=None, more=None, **arguments):
        args = UnlearnArguments(str(tmp_path), **QUIET | arguments)
        data = {"forget": NUMBERS, "retain": WORDS} if data is None else data
        how = {"processing_class": tokenizer, "peft_config": peft_config, "neurons": neurons}
        return UnlearnTrainer(model, args, train_dataset=data, **how | (more or {}))

    return make


@pytest.fixture
def knows(tokenizer):
    """Top-1 on held-out text of both languages."""
    blocks = [token_blocks(texts, tokenizer, tokens=512, part="test", block_size=32) for texts in (NUMBERS, WORDS)]
    return lambda model: [next_token_metrics(model, one, progress=False).top1 for one in blocks]


@pytest.mark.parametrize("method", ["graddiff", "npo", "simnpo", "dpo", "undial", "pdu"])
def test_training_takes_more_from_forget_than_from_retain(trainer, toy_model, knows, method):
    before = knows(toy_model)
    trainer(method=method).train()
    after = knows(toy_model)
    assert before[0] - after[0] > before[1] - after[1] and after[0] < before[0]


def test_hidden_states_are_steered(trainer, toy_model, knows):
    before = knows(toy_model)
    trainer(method="rmu", layer=0, learning_rate=1e-2).train()
    assert knows(toy_model)[0] < before[0]


def test_accumulated_passes_give_the_weights_of_one(trainer, toy_model, taught):
    trainer(method="graddiff", max_steps=2, per_device_train_batch_size=8).train()
    together = deepcopy(toy_model.state_dict())
    toy_model.load_state_dict(taught.state_dict())
    trainer(method="graddiff", max_steps=2, per_device_train_batch_size=4, gradient_accumulation_steps=2).train()
    difference = max(float((value - together[name]).abs().max()) for name, value in toy_model.state_dict().items())
    assert difference < 1e-5, "rows have different lengths, and longer ones bring more to the mean"


def test_an_adapter_is_trained_beside_the_original(trainer, toy_model, knows):
    from peft import LoraConfig

    before = deepcopy(toy_model.state_dict())
    made = trainer(
        method="npo", learning_rate=1e-2, peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    made.train()
    adapted = made.model
    names = {
        name.replace(".base_layer", "").removeprefix("base_model.model."): value for name, value in adapted.state_dict().items()
    }
    assert all(torch.equal(names[name], value) for name, value in before.items())
    with adapted.disable_adapter():
        original = knows(adapted.get_base_model())
    assert knows(adapted.get_base_model())[0] < original[0]


def test_the_neurons_of_a_mask_are_all_that_is_written(trainer, toy_model):
    groups, before = neuron_groups(toy_model), deepcopy(toy_model.state_dict())
    whole = NeuronMask.keep_all(groups, "tiny-llama")
    mask = whole.with_kept({name: torch.arange(len(kept)) >= len(kept) // 4 for name, kept in whole.items()})
    trainer(method="graddiff", neurons=mask).train()
    may = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in before.items()}
    for name, index in zeros_of(toy_model, mask, groups):
        may[name][index] = True
    changed = [name for name, value in toy_model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed
    assert all(torch.equal(value[~may[name]], before[name][~may[name]]) for name, value in toy_model.state_dict().items())


def test_both_objectives_are_logged_and_evaluation_is_the_models_own(trainer):
    rows = [{"input_ids": torch.arange(10), "labels": torch.arange(10)}]
    made = trainer(
        method="npo", logging_strategy="steps", logging_steps=2.0, more={"eval_dataset": {"forget": rows, "retain": rows}}
    )
    made.train()
    first = next(entry for entry in made.state.log_history if "loss" in entry)
    assert first["loss"] == pytest.approx(first["forget_loss"] + first["retain_loss"], abs=2e-3)
    assert {"eval_forget_loss", "eval_retain_loss"} <= made.evaluate().keys()


def test_a_run_that_was_stopped_goes_on_against_the_original(trainer, toy_model, taught):
    whole = trainer(method="npo", max_steps=4)
    whole.train()
    weights = deepcopy(toy_model.state_dict())
    toy_model.load_state_dict(taught.state_dict())
    trainer(method="npo", max_steps=4, save_strategy="steps", save_steps=2.0).train()
    toy_model.load_state_dict(taught.state_dict())
    resumed = trainer(method="npo", max_steps=4)
    resumed.train(resume_from_checkpoint=f"{resumed.args.output_dir}/checkpoint-2")
    for name, value in resumed.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        ({"forget": NUMBERS}, {}, "`train_dataset` must have rows to retain, got \\['forget'\\]"),
        ({"retain": WORDS}, {}, "`train_dataset` must have rows to forget, got \\['retain'\\]"),
        (None, {"method": "repselect"}, "needs one method that takes gradient steps, got `repselect`"),
        (None, {"method": "npo,dpo"}, "needs one method that takes gradient steps, got `npo,dpo`"),
        (None, {"method": "rmu", "layer": 7}, "`layer` must be one of the model's 2 layers"),
        (None, {"method": "dpo", "alternatives": []}, "DPO needs answers to prefer, got \\[\\]"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_sentence(trainer, data, arguments, message):
    with pytest.raises(ConfigError, match=message):
        trainer(data, **arguments)


def test_adapters_and_decay_stay_inside_the_mask(trainer, toy_model):
    from peft import LoraConfig

    whole = NeuronMask.keep_all(neuron_groups(toy_model), "tiny-llama")
    mask = whole.with_kept({name: torch.arange(len(kept)) >= 4 * ("mlp" in name) for name, kept in whole.items()})
    with pytest.raises(ConfigError, match="LoRA may be put on projections that read or compute a neuron of the mask alone"):
        trainer(neurons=mask, peft_config=LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(ConfigError, match="weight_decay must be 0, got 0.1"):
        trainer(neurons=mask, weight_decay=0.1)


def test_without_a_retain_objective_no_retain_rows_are_needed(trainer, toy_model, knows):
    before = knows(toy_model)
    trainer({"forget": NUMBERS}, method="graddiff", retain_objective="none", max_steps=2).train()
    assert knows(toy_model)[0] < before[0]
