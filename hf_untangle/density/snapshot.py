"""Looking at a network in the middle of its training, without the training noticing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.density.activity import activity
from hf_untangle.density.measure import Measure
from hf_untangle.density.sweep import sweep
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.distributed import together
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.randomness import random_state_kept

FORMAT = "hf_untangle.measuring-times/1"


def snapshot(model: nn.Module, measure: Measure, config: SweepConfig) -> dict[str, float]:
    """Measure how much of a network can go now, and how much of it is in use.

    Weights, modes, gradients and random states are as before afterwards.

    Args:
        model: The network.
        measure: What judges it; what it runs is also what neurons are watched on.
        config: Settings of the sweep.

    Returns:
        Numbers by name, for a log: `prunable_share`, `metric`, `dead_neurons`, `activation_sparsity` and `effective_rank`.
    """
    with random_state_kept(), evaluation_mode(model):
        found = sweep(model, measure, config=config, progress=False)
        seen = activity(model, measure.evaluate)
    return {
        "prunable_share": found.first,
        "metric": found.base,
        "dead_neurons": seen.dead,
        "activation_sparsity": seen.sparsity,
        "effective_rank": seen.effective_rank,
    }


def check_snapshot(model: nn.Module, measure: Measure, config: SweepConfig) -> None:
    """Find out whether a network can be measured, by taking one snapshot that tries a single share.

    Args:
        model: The network, which is as before afterwards.
        measure: What judges it.
        config: Settings of the sweep.

    Raises:
        StatisticsError: The metric is no finite number, or no neuron ran.
        ArchitectureError: There is nothing that can be pruned.
        MaskError: The weights are quantised or not loaded.
    """
    snapshot(model, measure, config.with_settings(grid=config.grid[:1]))


class TimeBudget:
    """How much of a training's time measuring has taken, and may take."""

    def __init__(self, share: float) -> None:
        """Choose how much it may take.

        Args:
            share: Of the time since the training began, above 0 and at most 1.

        Raises:
            ConfigError: It is no such share.
        """
        if not 0 < share <= 1:
            raise ConfigError(f"max_share_of_time must be above 0 and at most 1, got {share}. Pass a share such as 0.1.")
        self._allowed = share
        self._began = self._total = self.last = 0.0

    def begin(self) -> None:
        """Start the clock."""
        self._began, self._total, self.last = time.perf_counter(), 0.0, 0.0

    def share(self, more: float = 0.0) -> float:
        """The share of the time since the beginning that measuring took.

        Args:
            more: Seconds that it would take in addition.

        Returns:
            From 0 to 1.
        """
        return (self._total + more) / max(time.perf_counter() - self._began + more, 1e-9)

    def allows_another(self) -> bool:
        """Whether a measurement as long as the last one stays inside the budget, by the main process' clock, so that all agree.

        Returns:
            True for the first measurement.
        """
        return together(lambda: self.share(self.last) <= self._allowed or not self._total)[0]

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Count the time of the `with` block as measuring.

        Yields:
            Nothing.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            self.last = time.perf_counter() - start
            self._total += self.last

    def save(self, file: str | Path) -> None:
        """Write how long the training and its measurements have taken.

        Args:
            file: A safetensors file.

        Raises:
            OutputError: The file cannot be written.
        """
        seconds = torch.tensor([time.perf_counter() - self._began, self._total, self.last], dtype=torch.float64)
        write_tensors(file, {"seconds": seconds}, kind=FORMAT, record={})

    def load(self, file: str | Path) -> None:
        """Continue from what `save` wrote.

        Args:
            file: A safetensors file.

        Raises:
            StatisticsError: The file was not written by this package.
        """
        content = read_tensors(file, kind=FORMAT, what="the times of a training", error=StatisticsError, record=FileRecord)
        content.check_names({"seconds"})
        running, self._total, self.last = content.finite("seconds", (3,)).tolist()
        self._began = time.perf_counter() - running
