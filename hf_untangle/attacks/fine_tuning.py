"""Training on a few samples of what was forgotten, or on harmless text: how fast does it come back?

Relearning on a few examples is the attack that most unlearning fails (arXiv:2409.18025, 2410.08827). Nothing holds removed
neurons at zero here, and every model is trained in the same way, so that what the original gains by fitting the corpus can be
told from what the unlearned model gets back.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.wrappers import model_below
from hf_untangle.attacks.context import Scene, Victim
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.evaluation.next_token import NextTokenMetrics
from hf_untangle.records.attacks import Reading
from hf_untangle.repairs.methods import METHODS
from hf_untangle.repairs.training import train_


def relearn(scene: Scene) -> Iterator[Reading]:
    """Train every model on a few samples of the forget corpus.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows after more and more steps.
    """
    yield from _trained(scene, scene.samples(scene.forget.corpus, scene.config.samples))


def benign(scene: Scene) -> Iterator[Reading]:
    """Benign fine-tuning: train on the retain corpus only, with fresh text at every step.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows of the forget corpus after more and more steps.
    """
    config = scene.config.training(0)
    yield from _trained(scene, scene.samples(scene.retain.corpus, config.steps * config.passes * config.batch_size))


def _trained(scene: Scene, samples: dict[int, TokenBlocks]) -> Iterator[Reading]:
    """Train every model on the samples of its seed."""
    for victim in scene.victims_by_seed():
        yield from _curve(scene, victim, samples[victim[1]])


def _curve(scene: Scene, victim: Victim, samples: TokenBlocks) -> Iterator[Reading]:
    """Train one model, and read it on the way; it is measured on both corpora in the end, with the adapter merged."""
    who, seed, model = victim
    config = scene.config.training(seed)
    watch = _Watch(scene.knows, due_steps(config.steps, scene.config.points), scene.is_late)

    def train(trainee: nn.Module, compute: torch.dtype) -> None:
        watch.compute = compute
        train_(trainee, samples, config, compute=compute, callbacks=(lambda _: watch,), progress=False)

    final, _ = METHODS[config.method](model, config, train, scene.judge)
    for step, metrics in watch.curve.items():
        yield Reading(model=who, condition=f"{step} steps", at=step, forget=metrics, seed=seed)
    last = f"{watch.step} steps"
    yield Reading(model=who, condition=last, at=watch.step, forget=final.forget, retain=final.retain, seed=seed)


def due_steps(steps: int, points: int) -> set[int]:
    """Choose when a training is measured: at growing distances, as most comes back at first.

    Args:
        steps: How many steps there are.
        points: How often to measure at the most.

    Returns:
        steps^(i / points), rounded, for i from 1 to points.
    """
    return {round(steps ** (number / points)) for number in range(1, points + 1)}


class _Watch(TrainerCallback):
    """Measures a model in training at some steps but the last one, and ends the training when its time is over."""

    def __init__(
        self, measure: Callable[[PreTrainedModel], NextTokenMetrics], due: set[int], is_late: Callable[[], bool]
    ) -> None:
        self.curve: dict[int, NextTokenMetrics] = {}
        self.step = 0
        self.compute = torch.float32
        self._measure, self._due, self._is_late = measure, due, is_late

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count the step, and measure where that is due."""
        self.step = state.global_step
        control.should_training_stop |= self._is_late()
        if self.step in self._due and self.step < state.max_steps and not control.should_training_stop:
            model = model_below(kwargs["model"])
            with torch.autocast(model.device.type, self.compute, enabled=self.compute != torch.float32):
                self.curve[self.step] = self._measure(model)
