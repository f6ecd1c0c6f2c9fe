"""Statistics of training batches are those that a pass over the same tokens would give, and cost no pass of their own."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from trainers import a_trainer, examples

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.callbacks.statistics import StatisticsCallback
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.moments import MomentAccumulator
from hf_untangle.statistics.training_collector import PassCollector, overview

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # by peft
    pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning"),
]

FROZEN = {"learning_rate": 0.0, "max_steps": -1, "num_train_epochs": 1}
"""One epoch in which no weight changes, so that every batch can be compared with a pass over the same tokens."""


@pytest.fixture
def model(tiny_model):
    return tiny_model("llama")


@pytest.fixture
def watched(tmp_path):
    """A trainer with the callback on it."""

    def make(model: nn.Module, *, every=1, groups=None, folder="run", **settings):
        trainer = a_trainer(model, tmp_path / folder, **settings)
        callback = StatisticsCallback(trainer, every=every, groups=groups)
        trainer.add_callback(callback)
        return trainer, callback

    return make


@pytest.fixture
def expected(blocks_of, model):
    """What a pass over some examples collects."""

    def collected(rows):
        ids = torch.stack([row["input_ids"] for row in rows])
        mask = torch.stack([row["attention_mask"] for row in rows]).bool() if "attention_mask" in rows[0] else None
        return collect(model, blocks_of(ids, mask), progress=False)

    return collected


def assert_same(one: ActivationStatistics, other: ActivationStatistics) -> None:
    assert list(one) == list(other)
    for name, moments in one.items():
        for key, value in moments.tensors().items():
            torch.testing.assert_close(value, other[name].tensors()[key], rtol=1e-5, atol=1e-5)


def no_hooks(model: nn.Module) -> bool:
    return not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 3}, {"per_device_train_batch_size": 5}])
def test_an_epoch_gives_the_statistics_of_its_tokens(watched, model, expected, settings):
    trainer, callback = watched(model, **FROZEN | settings)
    trainer.train()
    assert_same(callback.statistics, expected(examples()))
    assert callback.statistics.tokens == 24 * 12
    assert no_hooks(model)


def test_padding_does_not_count(watched, model, expected):
    rows = examples()
    for number, row in enumerate(rows):
        mask = torch.arange(12) < 12 - number % 5
        row |= {"attention_mask": mask.long(), "input_ids": row["input_ids"].masked_fill(~mask, 257)}
    trainer, callback = watched(model, data=rows, **FROZEN)
    trainer.train()
    assert_same(callback.statistics, expected(rows))


def test_only_chosen_steps_are_watched_with_all_of_their_passes(watched, model):
    trainer, callback = watched(model, every=2, groups=neuron_groups(model), gradient_accumulation_steps=2, max_steps=5)
    seen = count_passes(model)
    trainer.train()
    assert [record["step"] for record in callback.statistics.corpora] == [2, 4]
    assert callback.statistics.tokens == 2 * 2 * 4 * 12
    assert len(seen) == 5 * 2, "no pass but those of the training"


def count_passes(model: nn.Module) -> list[int]:
    seen: list[int] = []
    model.register_forward_hook(lambda *_: seen.append(1))
    return seen


def test_what_is_computed_again_for_the_gradient_counts_once(watched, model, expected):
    trainer, callback = watched(model, **FROZEN, activation_checkpointing=True)
    trainer.train()
    assert callback.statistics.tokens == 24 * 12
    assert_same(callback.statistics, expected(examples()))


def test_the_neurons_below_an_adapter_are_watched(watched, model, expected):
    want = expected(examples())
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    trainer, callback = watched(adapted, **FROZEN)
    trainer.train()
    assert_same(callback.statistics, want)


def test_numbers_are_logged_where_the_trainer_reports(watched, model):
    trainer, callback = watched(model, every=2)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "untangle/statistics/tokens" in entry]
    assert [entry["step"] for entry in logged] == [2, 4]
    assert {entry["untangle/statistics/tokens"] for entry in logged} == {48}
    for entry in logged:
        assert entry["untangle/statistics/ffn_mean_abs"] > 0 and entry["untangle/statistics/attention_mean_abs"] > 0
        assert 0 <= entry["untangle/statistics/ffn_silent"] < 1


def test_a_resumed_run_ends_with_the_statistics_of_all_of_its_steps(watched, tiny_model):
    saving = {"save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 2}
    trainer, whole = watched(tiny_model("llama"), **saving)
    trainer.train()
    again, resumed = watched(tiny_model("llama"), **saving)
    again.train(resume_from_checkpoint=f"{again.args.output_dir}/checkpoint-2")
    assert_same(resumed.statistics, whole.statistics)
    assert [record["step"] for record in resumed.statistics.corpora] == [1, 2, 3, 4]


def test_a_checkpoint_without_statistics_is_said_so(watched, tiny_model, caplog):
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer = a_trainer(tiny_model("llama"), watched(tiny_model("llama"))[0].args.output_dir, **saving)
    trainer.train()
    again, resumed = watched(tiny_model("llama"), **saving)
    with caplog.at_level("WARNING", logger="hf_untangle"):
        again.train(resume_from_checkpoint=f"{again.args.output_dir}/checkpoint-2")
    file = f"{again.args.output_dir}/checkpoint-2/untangle-statistics.safetensors"
    assert f"there is no `{file}`: statistics are of the steps from here on" in caplog.text
    assert [record["step"] for record in resumed.statistics.corpora] == [3, 4]


def test_a_pass_that_fails_leaves_no_hook_behind(model):
    collector = PassCollector(model, neuron_groups(model))
    collector.watch()
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[10**6]]))
    collector.stop()
    assert no_hooks(model)


def test_only_the_last_pass_before_a_count_is_counted(model):
    groups = neuron_groups(model)
    collector = PassCollector(model, groups)
    ids = torch.arange(8)[None]
    model(input_ids=ids)
    collector.watch()
    for _ in range(2):
        model(input_ids=ids[:, :3])
    model(input_ids=ids)
    collector.count()
    collector.count()
    model(input_ids=ids[:, :3])
    collector.stop()
    collector.count()
    assert {int(moments.count) for moments in collector.take().values()} == {8}
    assert {int(moments.count) for moments in collector.take().values()} == {0}


def test_the_overview_by_hand(model):
    groups = neuron_groups(model)[:2]
    moments = {}
    for group, value in zip(groups, (1.0, -3.0), strict=True):
        sums = MomentAccumulator(group.size, torch.device("cpu"))
        sums.update(torch.full((5, group.size), value))
        moments[group.name] = sums.result()
    assert overview(moments, groups) == {
        "tokens": 5,
        "ffn_mean_abs": 3.0,
        "ffn_silent": 1.0,
        "attention_mean_abs": 1.0,
        "attention_silent": 0.0,
    }


def test_before_the_first_watched_step_there_are_no_statistics(watched, model):
    _, callback = watched(model)
    with pytest.raises(StatisticsError, match="No step has been watched yet"):
        _ = callback.statistics


def test_every_must_be_positive(watched, model):
    with pytest.raises(ConfigError, match="`every` must be a number of optimizer steps, at least 1, got 0"):
        watched(model, every=0)
