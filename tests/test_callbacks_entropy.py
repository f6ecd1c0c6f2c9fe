"""Entropy of neurons in real Trainer runs."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.callbacks.entropy import EntropyCallback
from hf_untangle.entropy.overview import entropy_quantiles
from hf_untangle.errors import ConfigError
from hf_untangle.statistics.collect import collect


def rows(count: int = 12, length: int = 12, seed: int = 2):
    ids = torch.randint(256, (count, length), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "labels": row} for row in ids]


@pytest.fixture
def trainer(tiny_model, tmp_path):
    """A Trainer on a tiny model with dropout, two epochs of three steps."""

    def make(**settings) -> Trainer:
        defaults = {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "eval_strategy": "epoch",
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }
        arguments = TrainingArguments(output_dir=str(tmp_path / "run"), **defaults | settings)
        model = tiny_model("gpt2")
        return Trainer(model, arguments, train_dataset=rows(), eval_dataset=rows(8, seed=3))

    return make


def watched_by(run: Trainer, **settings) -> EntropyCallback:
    callback = EntropyCallback(run, **{"figures": False, **settings})
    run.add_callback(callback)
    return callback


def hooks(model) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


def test_training_with_the_callback_and_no_action_is_bit_equal_to_training_without(trainer):
    plain, watched = trainer(), trainer()
    watched_by(watched)
    for run in (plain, watched):
        torch.manual_seed(0)  # dropout draws from the global state
        run.train()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(watched.model.state_dict()[name], value), name
    assert hooks(watched.model) == hooks(plain.model)


def test_numbers_reach_the_log(trainer):
    run = trainer()
    watched_by(run)
    run.train()
    train, evaluation, drifts = (
        [values for values in run.state.log_history if name in values]
        for name in ("untangle/entropy/train_median", "untangle/entropy/eval_median", "untangle/entropy/drift")
    )
    assert len(train) == len(evaluation) == len(drifts) == 2
    assert 0 <= train[0]["untangle/entropy/train_lower_quartile"] <= train[0]["untangle/entropy/train_median"] <= 1
    assert {"untangle/entropy/train_always_on", "untangle/entropy/train_always_off"} <= train[0].keys()
    assert 0 < drifts[0]["untangle/entropy/drift"] < 1
    assert sum(name.startswith("untangle/entropy/drift.") for name in drifts[0]) == 4


def test_the_numbers_of_evaluation_are_those_of_the_statistics(trainer, blocks_of):
    run = trainer(num_train_epochs=1)
    callback = watched_by(run)
    run.train()
    ids = torch.stack([row["input_ids"] for row in rows(8, seed=3)])
    statistics = collect(run.model, blocks_of(ids), progress=False)
    (epoch, quantiles) = callback.watch.history["eval"][0]
    assert epoch == 1
    torch.testing.assert_close(quantiles, entropy_quantiles(statistics), rtol=0, atol=1e-9)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_every_training_token_counts_once_and_padding_does_not(trainer, accumulated):
    run = trainer(num_train_epochs=1, per_device_train_batch_size=4 // accumulated, gradient_accumulation_steps=accumulated)
    run.train_dataset = [row | {"attention_mask": (torch.arange(12) < 6).long()} for row in rows()]
    callback = watched_by(run)
    run.train()
    assert {int(moments.count) for moments in callback.watch.last.values()} == {12 * 6}


def test_every_epoch_draws_its_figures(trainer, tmp_path):
    run = trainer()
    watched_by(run, figures=True)
    run.train()
    drawn = sorted(path.name for path in (tmp_path / "run" / "entropy").iterdir())
    assert drawn == ["eval-epoch-1.svg", "eval-epoch-2.svg", "over-time.svg", "train-epoch-1.svg", "train-epoch-2.svg"]


@pytest.mark.parametrize(("every", "removed"), [(None, 12), (2, 36), (3, 24), (4, 12)])
def test_the_lowest_share_is_removed_at_an_interval_or_at_the_end(trainer, every, removed):
    run = trainer()
    callback = watched_by(run, mask_share=0.125, every=every)
    run.train()
    assert callback.mask.removed() == callback.mask.removed("ffn") == removed
    for group in neuron_groups(run.model):
        gone = ~callback.mask[group.name]
        assert not run.model.get_submodule(group.name).weight[gone].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_share": 1.0}, "mask_share must be from 0 to below 1, got 1.0"),
        ({"mask_share": -0.1}, "mask_share must be from 0 to below 1, got -0.1"),
        ({"mask_share": 0.001}, "mask at least one neuron, .* 0.001 of 48 ffn neurons is none"),
        ({"every": 0}, "`every` must be a number of optimizer steps, at least 1, got 0"),
    ],
)
def test_a_share_or_an_interval_out_of_its_range_is_an_error(trainer, settings, message):
    with pytest.raises(ConfigError, match=message):
        EntropyCallback(trainer(), **settings)


def test_a_second_training_is_watched_as_the_first_and_leaves_no_hook(trainer):
    run = trainer(num_train_epochs=1)
    callback = watched_by(run)
    before = hooks(run.model)
    run.train()
    run.train()
    run.evaluate()
    assert hooks(run.model) == before
    assert (len(callback.watch.history["train"]), len(callback.watch.history["eval"])) == (1, 1)
