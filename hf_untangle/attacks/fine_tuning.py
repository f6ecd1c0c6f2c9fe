"""Training a copy of a model while what it knows of the forget corpus is measured on the way.

Nothing holds removed neurons at zero here, and every model is trained in the same way, so that what the original gains by
fitting the corpus can be told from what the unlearned model gets back.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.wrappers import model_below
from hf_untangle.attacks.context import Scene, Victim
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.evaluation.next_token import NextTokenMetrics
from hf_untangle.records.attacks import Reading
from hf_untangle.repairs.methods import REPAIRS
from hf_untangle.repairs.training import train_


def benign(scene: Scene) -> Iterator[Reading]:
    """Benign fine-tuning: train on the retain corpus only, with fresh text at every step.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows of the forget corpus after more and more steps.
    """
    config = scene.config.training(0)
    samples = scene.samples(scene.retain.corpus, config.steps * config.passes * config.batch_size)
    for victim in scene.victims_by_seed():
        yield from trained(scene, victim, samples[victim[1]], scene.config.training(victim[1]), scene.forget)


def trained(
    scene: Scene, victim: Victim, samples: TokenBlocks, config: RepairConfig, measured: TokenBlocks, setting: str = ""
) -> Iterator[Reading]:
    """Train one copy, and measure it on the way; it is measured on both corpora in the end, with the adapter merged.

    Args:
        scene: The models, text and settings.
        victim: The copy.
        samples: What it is trained on.
        config: How it is trained.
        measured: What it is measured on, on the way and in the end.
        setting: What the readings call this way to train, where several are tried.

    Yields:
        What it knows after more and more steps.
    """
    who, seed, model = victim
    watch = _Watch(lambda one: scene.knows(one, measured), due_steps(config.steps, scene.config.points), scene.is_late)

    def train(trainee: nn.Module, compute: torch.dtype) -> None:
        watch.compute = compute
        train_(trainee, samples, config, compute=compute, callbacks=(lambda _: watch,), progress=False)

    final, _ = REPAIRS[config.method](model, config, train, lambda one: scene.judge(one, measured))
    about = {"model": who, "seed": seed, "setting": setting}
    for step, metrics in watch.curve.items():
        yield Reading(**about, condition=counted_steps(step), at=step, forget=metrics)
    last = watch.step
    yield Reading(**about, condition=counted_steps(last), at=last, forget=final.forget, retain=final.retain)


def counted_steps(steps: int) -> str:
    """Write a number of steps.

    Args:
        steps: How many.

    Returns:
        `1 step` or `2 steps`.
    """
    return f"{steps} step{'s' if steps != 1 else ''}"


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
