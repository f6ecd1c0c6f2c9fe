"""The density of a model is logged while it is trained, and the training does not notice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.callbacks import density
from hf_untangle.callbacks.density import DensityCallback
from hf_untangle.errors import ConfigError

GRID = (0.25, 0.5, 0.75)


class Noisy(nn.Module):
    """A network with dropout, so that its training depends on the random state."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))

    def forward(self, x, labels=None):
        logits = self.layers(x)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def rows():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 4, generator=generator)
    return [{"x": one, "labels": (one.sum() > 0).long()} for one in x]


def evaluate(model):
    """Accuracy, with some random numbers that it draws on the way."""
    torch.rand(7)
    x = torch.stack([row["x"] for row in rows()])
    labels = torch.stack([row["labels"] for row in rows()])
    return (model(x)["logits"].argmax(-1) == labels).float().mean().item()


def trained(folder, *, every=None, resume=None, log=True, **arguments):
    """Train for twelve steps, and give the trainer back."""
    torch.manual_seed(0)
    settings = {"max_steps": 12, "per_device_train_batch_size": 8, "learning_rate": 0.05, "logging_strategy": "no", "seed": 3}
    fixed = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False, "save_strategy": "no"}
    trainer = Trainer(Noisy(), TrainingArguments(str(folder), **fixed | settings | arguments), train_dataset=rows())
    if every:
        options = {"log": trainer.log} if log else {}
        trainer.add_callback(DensityCallback(evaluate, every=every, grid=GRID, max_share_of_time=1.0, **options))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def measured(trainer):
    return [entry for entry in trainer.state.log_history if "density/prunable_share" in entry]


def numbers(trainer):
    timing = ("density/seconds", "density/share_of_time")
    return [{name: value for name, value in entry.items() if name not in timing} for entry in measured(trainer)]


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_run_with_the_callback_gives_identical_weights(tmp_path, accumulation):
    with_it = trained(tmp_path / "a", every=2, gradient_accumulation_steps=accumulation)
    without = trained(tmp_path / "b", gradient_accumulation_steps=accumulation)
    assert torch.equal(weights(with_it), weights(without))
    assert [entry["step"] for entry in measured(with_it)] == [2, 4, 6, 8, 10, 12]


def test_what_is_logged_is_what_a_sweep_finds(tmp_path):
    trainer = trained(tmp_path, every=12)
    (entry,) = measured(trainer)
    from hf_untangle.density import sweep

    found = sweep(trainer.model, evaluate, grid=GRID, refine=0.0, progress=False)
    assert (entry["density/prunable_share"], entry["density/metric"]) == (found.first, found.base)
    assert {"density/dead_neurons", "density/activation_sparsity", "density/effective_rank"} < entry.keys()


def test_without_a_log_the_trainers_history_has_it_all_the_same(tmp_path):
    assert numbers(trained(tmp_path / "a", every=4, log=False)) == [
        {name: value for name, value in entry.items() if name != "epoch"} for entry in numbers(trained(tmp_path / "b", every=4))
    ]


def test_a_resumed_run_measures_the_same_at_the_same_steps(tmp_path):
    whole = trained(tmp_path / "a", every=4, save_strategy="steps", save_steps=6)
    resumed = trained(tmp_path / "b", every=4, resume=str(tmp_path / "a" / "checkpoint-6"))
    assert numbers(resumed) == numbers(whole)
    assert torch.equal(weights(resumed), weights(whole))


def test_measurements_that_would_cost_too_much_are_left_out(tmp_path, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(density.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(density, "snapshot", lambda *_: {"density/prunable_share": 0.5})
    callback = DensityCallback(evaluate, every=1, max_share_of_time=0.2)

    state, control = TrainerState(), TrainerControl()
    arguments = TrainingArguments(str(tmp_path), use_cpu=True)
    callback.on_train_begin(arguments, state, control)
    for _ in range(40):
        state.global_step += 1
        callback.on_step_end(arguments, state, control, model=None)
    steps = [entry["step"] for entry in state.log_history]
    assert steps[0] == 1  # the first one is always made
    assert 4 < len(steps) < 20
    assert all(entry["density/share_of_time"] <= 0.21 for entry in state.log_history[1:])


def test_settings_are_checked_before_training(tmp_path):
    with pytest.raises(ConfigError, match="A sweep has no setting `widths`"):
        DensityCallback(evaluate, widths=3)


@pytest.mark.slow
def test_two_processes_train_as_without_it_and_log_once(tmp_path):
    runs = {}
    for every in ("0", "3"):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
        result = subprocess.run(
            [*command, __file__, str(tmp_path / every), every], env=environment, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr[-2000:]
        runs[every] = [json.loads((tmp_path / every / f"{rank}.json").read_text()) for rank in range(2)]
    assert runs["0"][0]["weights"] == runs["0"][1]["weights"] == runs["3"][0]["weights"] == runs["3"][1]["weights"]
    assert runs["3"][0]["steps"] == [3, 6, 9, 12]


if __name__ == "__main__":
    output, every = Path(sys.argv[1]), int(sys.argv[2])
    finished = trained(output, every=every)
    report = {"weights": weights(finished).tolist(), "steps": [entry["step"] for entry in measured(finished)]}
    (output / f"{os.environ['RANK']}.json").write_text(json.dumps(report))
