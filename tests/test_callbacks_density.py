"""The density of a model is logged while it is trained, and the training does not notice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from hf_untangle.callbacks.density import DensityCallback
from hf_untangle.density.snapshot import TimeBudget
from hf_untangle.errors import ConfigError, StatisticsError

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


def a_trainer(folder, **arguments):
    """A trainer for twelve steps."""
    torch.manual_seed(0)
    settings = {"max_steps": 12, "per_device_train_batch_size": 8, "learning_rate": 0.05, "logging_strategy": "no", "seed": 3}
    fixed = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False, "save_strategy": "no"}
    return Trainer(Noisy(), TrainingArguments(str(folder), **fixed | settings | arguments), train_dataset=rows())


def trained(folder, *, every=None, resume=None, **arguments):
    """Train for twelve steps, and give the trainer back."""
    trainer = a_trainer(folder, **arguments)
    if every:
        trainer.add_callback(DensityCallback(trainer, evaluate, every=every, grid=GRID, max_share_of_time=1.0))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def measured(trainer):
    return [entry for entry in trainer.state.log_history if "untangle/density/prunable_share" in entry]


def numbers(trainer):
    timing = ("untangle/density/seconds", "untangle/density/share_of_time")
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
    assert (entry["untangle/density/prunable_share"], entry["untangle/density/metric"]) == (found.first, found.base)
    assert {f"untangle/density/{name}" for name in ("dead_neurons", "activation_sparsity", "effective_rank")} < entry.keys()


def test_a_resumed_run_measures_the_same_at_the_same_steps(tmp_path):
    whole = trained(tmp_path / "a", every=4, save_strategy="steps", save_steps=6)
    resumed = trained(tmp_path / "b", every=4, resume=str(tmp_path / "a" / "checkpoint-6"))
    assert numbers(resumed) == numbers(whole)
    assert torch.equal(weights(resumed), weights(whole))


def test_measurements_that_would_cost_too_much_are_left_out(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("hf_untangle.density.snapshot.time.perf_counter", lambda: float(next(clock)))
    budget, shares = TimeBudget(0.2), []
    budget.begin()
    for _ in range(40):
        shares.append(budget.share() if budget.allows_another() else None)
        if shares[-1] is not None:
            with budget.spent():
                pass
    assert shares[0] is not None  # the first one is always made
    measured = [share for share in shares if share is not None]
    assert 4 < len(measured) < 20
    assert all(share <= 0.21 for share in measured[2:])


def test_a_budget_of_time_continues_where_it_was_saved(monkeypatch, tmp_path):
    clock = iter([0.0, 10.0, 12.0, 20.0, 1000.0, 1000.0])
    monkeypatch.setattr("hf_untangle.density.snapshot.time.perf_counter", lambda: next(clock))
    budget, other = TimeBudget(0.5), TimeBudget(0.5)
    budget.begin()
    with budget.spent():
        pass
    budget.save(tmp_path / "times.safetensors")
    other.load(tmp_path / "times.safetensors")
    assert other.last == 2.0
    assert other.share() == 2 / 20


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widths": 3}, "no setting `widths`"),
        ({"grid": (0.5, 0.25)}, "shares above 0 and at most 1, increasing"),
        ({"every": 0}, "`every` must be a number of optimizer steps, at least 1, got 0"),
        ({"max_share_of_time": 0.0}, "max_share_of_time must be above 0 and at most 1, got 0.0"),
    ],
)
def test_settings_are_checked_before_training(tmp_path, wrong, message):
    with pytest.raises(ConfigError, match=message):
        DensityCallback(a_trainer(tmp_path), evaluate, **wrong)


def test_a_metric_that_is_no_number_is_refused_before_training(tmp_path):
    with pytest.raises(StatisticsError, match="must be a finite number, but it is nan"):
        DensityCallback(a_trainer(tmp_path), lambda model: float("nan"))


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
