"""The entropy of neurons while a model is trained, from the passes that training and evaluation run."""

import logging
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.distributed import in_main, together
from hf_untangle.entropy.overview import QUANTILES, drift, entropy_quantiles, entropy_scalars
from hf_untangle.errors import StatisticsError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.regular import shown
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.statistics.activation_statistics import tensors_of
from hf_untangle.statistics.collect import merged
from hf_untangle.statistics.moments import Moments
from hf_untangle.statistics.moments_file import read_moments
from hf_untangle.statistics.training_collector import PassCollector

logger = logging.getLogger("hf_untangle")

FORMAT = "hf_untangle.entropy-watch/1"
Phase = Literal["train", "eval"]


class EntropyWatch:
    """Sums up what neurons do in training and in evaluation, and says now and then what their entropies are.

    Of several processes each watches its own passes, and all of them get the numbers of all.
    """

    def __init__(self, model: nn.Module, groups: tuple[NeuronGroup, ...]) -> None:
        """Watch nothing yet.

        Args:
            model: The model, with an adapter of peft or without.
            groups: Which neuron groups to watch.
        """
        self.passes: dict[Phase, PassCollector] = {"train": PassCollector(model, groups), "eval": PassCollector(model, groups)}
        self.history: dict[Phase, list[tuple[float, Float[Tensor, " quantile"]]]] = {"train": [], "eval": []}
        """The time of every look, and the quantiles of entropy that it saw."""
        self.last: dict[str, Moments] = {}
        """The sums of the last look at training passes."""
        self._groups = groups
        self._before: dict[str, Moments] = {}

    def look(self, phase: Phase, time: float) -> dict[str, Moments]:
        """Close what was watched of a phase since its last look.

        Args:
            phase: Training or evaluation.
            time: When it is, in epochs.

        Returns:
            The sums of the groups that ran, over all processes; nothing when no pass was counted.
        """
        moments = self._taken(phase)
        if phase == "train":
            moments, self._before = _sum(self._before, moments), {}
        seen = {name: sums for name, sums in moments.items() if int(sums.count)}
        if seen:
            self.history[phase].append((time, entropy_quantiles(seen)))
            self.last = seen if phase == "train" else self.last
        return seen

    def numbers(self, phase: Phase, moments: dict[str, Moments]) -> dict[str, float]:
        """Say what neurons did in a few numbers.

        Args:
            phase: Training or evaluation.
            moments: What the look has seen.

        Returns:
            Numbers by name, for a log; of an evaluation also how far neurons drifted since the last look at training.
        """
        numbers = entropy_scalars(moments, phase)
        if phase == "eval" and self.last:
            numbers["drift"] = drift(self.last, moments)
            numbers |= {f"drift.{name}": drift({name: sums}, moments) for name, sums in self.last.items()}
        return numbers

    def newest(self) -> dict[str, Moments]:
        """The sums of the last look at training passes; before the first, of the passes so far. Only groups that ran."""
        self._before = _sum(self._before, self._taken("train"))
        return self.last or {name: sums for name, sums in self._before.items() if int(sums.count)}

    def stop(self) -> None:
        """Take all hooks off the model."""
        for passes in self.passes.values():
            passes.stop()

    def save(self, file: str | Path) -> None:
        """Write what was seen so far, and what was watched since the last look.

        Args:
            file: A safetensors file, which the main process writes; the call is for all processes.

        Raises:
            OutputError: The file cannot be written.
        """
        self._before = _sum(self._before, self._taken("train"))
        parts: dict[str, dict[str, Tensor]] = {"last": tensors_of(self.last), "before": tensors_of(self._before)}
        for phase, looks in self.history.items():
            times = torch.tensor([time for time, _ in looks], dtype=torch.float64)
            quantiles = torch.stack([values for _, values in looks]) if looks else torch.empty(0, len(QUANTILES))
            parts[phase] = {"times": times, "quantiles": quantiles.double()}
        # Tensors of a file must not share memory.
        tensors = {f"{part}/{name}": tensor.clone() for part, named in parts.items() for name, tensor in named.items()}
        record = {"last": list(self.last), "before": list(self._before)}
        in_main(lambda: write_tensors(file, tensors, kind=FORMAT, record=record))

    def load(self, file: str | Path) -> None:
        """Continue from what `save` wrote.

        Args:
            file: A safetensors file.

        Raises:
            StatisticsError: The file was not written by this package, or of another model.
        """
        content = read_tensors(file, kind=FORMAT, what="entropies of a training", error=StatisticsError, record=_WatchRecord)
        last = {name: read_moments(content, f"last/{name}") for name in content.record.last}
        before = {name: read_moments(content, f"before/{name}") for name in content.record.before}
        sizes = {group.name: group.size for group in self._groups}
        for name, sums in (*last.items(), *before.items()):
            if len(sums.total) != sizes.get(name):
                raise content.expected.fault(f"{len(sums.total)} neurons of {shown(name)}, which are not those of this model")
        for phase in self.history:
            times = content.finite(f"{phase}/times", (None,))
            quantiles = content.finite(f"{phase}/quantiles", (len(times), len(QUANTILES)))
            self.history[phase] = list(zip(times.tolist(), quantiles, strict=True))
        self.last, self._before = last, before

    def _taken(self, phase: Phase) -> dict[str, Moments]:
        """Sums of all processes since the last time; nothing when they are no finite numbers, as those spoil the rest."""
        moments = merged(together(self.passes[phase].take))
        if all(sums.is_finite() for sums in moments.values()):
            return moments
        logger.warning("Some activations are not finite: the passes since the last look are left out of entropies.")
        return {}


class _WatchRecord(FileRecord):
    """What a file of entropies says of its sums."""

    last: tuple[str, ...]
    """The groups of the last look at training."""
    before: tuple[str, ...]
    """The groups that were watched since."""


def _sum(before: dict[str, Moments], more: dict[str, Moments]) -> dict[str, Moments]:
    """Sums over the tokens of both."""
    return before | {name: before[name] + sums if name in before else sums for name, sums in more.items()}
