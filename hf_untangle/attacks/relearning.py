"""Relearning as a worst case: of many ways to train on a little of the forget corpus, the one that brings back most counts.

Figures of one learning rate mean little (arXiv:2412.07097): a rate that breaks one model is the best for another, so every
model is trained in every way with the first seed, and with the other seeds in its own worst way alone. Training on some facts
of the forget set while others are measured (arXiv:2410.08827) tells recovery from learning: no sample says the others.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from hf_untangle.attacks.context import Scene
from hf_untangle.attacks.fine_tuning import trained
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.errors import StatisticsError
from hf_untangle.records.attacks import Reading, Who


def relearn(scene: Scene) -> Iterator[Reading | str]:
    """Train every model on a few samples of the forget corpus (arXiv:2409.18025), and measure it on the held-out part.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows after more and more steps of each way to train, and which ways were not tried.
    """
    yield from _worst_case(scene, scene.samples(scene.forget.corpus, scene.config.samples), scene.forget)


def held_out_facts(scene: Scene) -> Iterator[Reading | str]:
    """Train on one part of what was to be forgotten, and measure another part of it: retraining on T (arXiv:2410.08827).

    Both parts come from the train part of the forget corpus, which unlearning has seen. T comes first and V behind it, with a
    block between them that neither has, so that no block of V continues one of T.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows of V as it is, at dose 0, then after more and more steps on T.
    """
    known, unknown = _split(scene)
    for who, seed, model in scene.victims():
        yield Reading(model=who, condition="as it is", at=0, forget=scene.knows(model, unknown), seed=seed)
    yield from _worst_case(scene, known, unknown)


def _split(scene: Scene) -> tuple[dict[int, TokenBlocks], TokenBlocks]:
    """Text T to train on, by seed, and V to measure."""
    config = scene.config
    size = config.block_size
    measured = max(1, config.evaluation_tokens // size)
    asked = config.samples * config.seeds + 1 + measured
    blocks = token_blocks(scene.forget.corpus, scene.tokenizer, tokens=asked * size, block_size=size, excerpt=None)
    count = len(blocks.input_ids)
    if count < 3:
        raise StatisticsError(
            f"Splitting the forget corpus into T and V needs at least 3 blocks of {size} tokens in its train part, got {count}."
            " Pass more text or a smaller block_size."
        )
    # Where the corpus is short, V has a third of it.
    of_v = min(measured, max(1, count // 3))
    taught = blocks.rows(slice(0, count - of_v - 1))
    apart = config.seeds if len(taught.input_ids) >= config.seeds else 1
    by_seed = {seed: taught.rows(slice(number % apart, None, apart)) for number, seed in enumerate(config.all_seeds)}
    return by_seed, blocks.rows(slice(count - of_v, None))


@dataclass(eq=False)
class _Search:
    """The worst way to train each model so far, and how long a training takes."""

    worst: dict[Who, tuple[float, RepairConfig]] = field(default_factory=dict)
    trainings: int = 0
    start: float = field(default_factory=time.perf_counter)

    def note(self, reading: Reading, way: RepairConfig) -> None:
        """Keep the way that brought back most."""
        if reading.model not in self.worst or reading.forget.top1 > self.worst[reading.model][0]:
            self.worst[reading.model] = (reading.forget.top1, way)

    def has_time(self, scene: Scene, trainings: int) -> bool:
        """Tell whether so many trainings fit into the time left, by how long they took; before the first, yes."""
        each = (time.perf_counter() - self.start) / max(1, self.trainings)
        return self.trainings == 0 or trainings * each < scene.time_left()


def _worst_case(scene: Scene, samples: dict[int, TokenBlocks], measured: TokenBlocks) -> Iterator[Reading | str]:
    """Try every way with the first seed, as far as time allows, and the worst of each model with all seeds."""
    config, search = scene.config, _Search()
    first = config.seed
    tuned: tuple[Who, ...] = scene.roles if config.tune_all else ("unlearned",)
    later: list[tuple[int, Who]] = [
        (seed, who) for seed in config.all_seeds for who in scene.roles if seed != first or who not in tuned
    ]
    ways = config.relearnings()
    for number, way in enumerate(ways):
        if not search.has_time(scene, len(tuned) + len(later)):
            yield f"{number} of {len(ways)} ways to train were tried, as the time for the others is needed for the comparison."
            break
        for who in tuned:
            yield from _one(scene, who, first, samples[first], way, measured, search)
    for seed, who in later:
        _, way = search.worst.get(who) or search.worst["unlearned"]
        yield from _one(scene, who, seed, samples[seed], way, measured, search)


def _one(
    scene: Scene,
    role: Who,
    seed: int,
    samples: TokenBlocks,
    way: RepairConfig,
    measured: TokenBlocks,
    search: _Search,
) -> Iterator[Reading | str]:
    """Train one model in one way; one that training breaks is no worst case."""
    name = way_in_words(way)
    try:
        way = way.with_settings(seed=seed)
        for reading in trained(scene, scene.victim(role, seed), samples, way, measured, name):
            search.note(reading, way)
            yield reading
    except StatisticsError as error:
        yield f"Training the {role} model ({name}) broke it: {error}"
    search.trainings += 1


def way_in_words(way: RepairConfig) -> str:
    """Name a way to train.

    Args:
        way: The settings.

    Returns:
        `lora, 0.001, warm-up 10%`.
    """
    return f"{way.method}, {way.rate:g}, " + (f"warm-up {way.warmup:.0%}" if way.warmup else "no warm-up")
