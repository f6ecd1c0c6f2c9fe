"""The experiment of arXiv:2305.12238: train through a channel of bits, mask some, see what it costs near and far."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import StatisticsError
from hf_untangle.importance.entropy import always_off, always_on, bit_entropy
from hf_untangle.papers.contrast.bit_masks import ABLATIONS, ORDERS, bits_to_mask, keep_after
from hf_untangle.papers.contrast.configuration import ContrastConfig
from hf_untangle.papers.contrast.contrast_config import LEAST_LOW_SHARE, LOW_ENTROPY, ContrastExperimentConfig
from hf_untangle.papers.contrast.contrast_record import Cell, ContrastRecord, ModelRecord
from hf_untangle.papers.contrast.contrast_training import TrainedContrast, train_contrast
from hf_untangle.papers.contrast.encoders import ItemSets
from hf_untangle.papers.contrast.measurement import EncodedItems, accuracy, bit_moments, encode
from hf_untangle.papers.contrast.modeling import ContrastModel
from hf_untangle.papers.contrast.problems import draw_problems
from hf_untangle.progress import track
from hf_untangle.statistics.moments import Moments

logger = logging.getLogger("hf_untangle")


@checked_calls
@dataclass(frozen=True, eq=False)
class ContrastExperiment:
    """What was measured, and the models that it was measured on."""

    record: ContrastRecord
    models: dict[int, ContrastModel]
    """Every trained model by its seed, those that were left out too."""
    __repr__ = fields_repr


@checked_arguments
def run_contrast(
    data: ItemSets, settings: ContrastExperimentConfig | None = None, *, progress: bool = True
) -> ContrastExperiment:
    """Train models and measure all masks at all shares on all sets.

    Args:
        data: What to train and to test on.
        settings: What to do; the default settings when None.
        progress: Whether to show a progress bar over models.

    Returns:
        The record and the models.

    Raises:
        ConfigError: A share masks no bit.
        CorpusError: A set has fewer items than a problem has choices.
        StatisticsError: A set is too small to measure an entropy on, or no model has learnt anything.
    """
    settings = settings or ContrastExperimentConfig()
    _check_shares(settings)
    trained = train_models(data, settings, progress=progress)
    return ContrastExperiment(measure_contrast(trained, data, settings), {seed: one.model for seed, one in trained.items()})


def train_models(data: ItemSets, settings: ContrastExperimentConfig, *, progress: bool = True) -> dict[int, TrainedContrast]:
    """Train as many models as there are seeds.

    Args:
        data: What to train on.
        settings: What to do.
        progress: Whether to show a progress bar over models.

    Returns:
        The models by seed.
    """
    sizes = {"bits": settings.bits, "noise": settings.noise, "temperature": settings.temperature}
    config = ContrastConfig(**{**sizes, **data.shape, **settings.model})
    trained = {}
    with track(f"models of {data.source}", settings.seeds, unit="model", progress=progress) as bar:
        for seed in range(settings.seeds):
            trained[seed] = train_contrast(
                config,
                data.train,
                choices=settings.choices,
                steps=settings.steps,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                seed=seed,
            )
            bar.update()
    return trained


def measure_contrast(trained: dict[int, TrainedContrast], data: ItemSets, settings: ContrastExperimentConfig) -> ContrastRecord:
    """Measure all masks at all shares on all sets, for models that are trained already.

    Args:
        trained: Models by seed.
        data: What they were trained on, and what to test on.
        settings: What to do; those of training play no part.

    Returns:
        The record, in which models that have not learnt anything are named and left out.

    Raises:
        StatisticsError: No model has learnt anything.
    """
    models, cells = [], []
    for seed, one in trained.items():
        model, found = _measure(seed, one, data, settings)
        models.append(model)
        cells += found
    if not cells:
        raise StatisticsError(
            f"At least one model must be trained to be measured, but all were left out: {models[0].left_out} Train for more "
            "steps, or raise the learning rate."
        )
    return ContrastRecord(
        settings=settings, source=data.source, sets=tuple(data.sets), models=tuple(models), cells=tuple(cells)
    )


def _check_shares(settings: ContrastExperimentConfig) -> None:
    """Refuse shares of no bit before anything is trained."""
    for share in settings.shares:
        if share != "low":
            bits_to_mask(float(share), settings.bits)


def _measure(
    seed: int, trained: TrainedContrast, data: ItemSets, settings: ContrastExperimentConfig
) -> tuple[ModelRecord, list[Cell]]:
    """Measure one model, or say why not."""
    judged = {"seed": seed, "loss": trained.loss, "of_chance": trained.of_chance}
    if trained.of_chance > settings.untrained:
        reason = f"the loss of seed {seed} is {trained.of_chance:.0%} of a guesser's, above {settings.untrained:.0%}."
        logger.warning("A model is left out: %s", reason)
        return ModelRecord(**judged, left_out=reason), []
    encoded = {name: encode(trained.model, items) for name, items in data.sets.items()}
    moments = {name: bit_moments(one) for name, one in encoded.items()}
    entropies = {name: _entropy(one, settings) for name, one in moments.items()}
    constants = ABLATIONS[settings.ablation](bit_moments(encode(trained.model, data.train))).float()
    cells = []
    for name, one in encoded.items():
        entropy = entropies[name if settings.entropy_on == "eval" else data.in_distribution]
        cells += list(_sweep(seed, trained.model, name, one, entropy, constants, settings))
    model = ModelRecord(
        **judged,
        left_out=None if cells else f"under {LEAST_LOW_SHARE:.0%} of the bits of seed {seed} are of low entropy.",
        entropy={name: tuple(sorted(entropy.tolist())) for name, entropy in entropies.items()},
        always_on={name: int(always_on(one).sum()) for name, one in moments.items()},
        always_off={name: int(always_off(one).sum()) for name, one in moments.items()},
    )
    return model, cells


def _sweep(  # noqa: PLR0913 (what one model is on one set)
    seed: int,
    model: ContrastModel,
    name: str,
    encoded: EncodedItems,
    entropy: Float[Tensor, " bit"],
    constants: Float[Tensor, " bit"],
    settings: ContrastExperimentConfig,
) -> Iterator[Cell]:
    """Mask bits of one model in every order at every share, and solve the same problems each time."""
    problems = draw_problems(len(encoded.bits), settings.choices, settings.problems, seed)
    before = accuracy(model, encoded, problems, torch.ones(len(entropy), dtype=torch.bool), constants)
    for share in settings.shares:
        exact = float((entropy < LOW_ENTROPY).float().mean()) if share == "low" else float(share)
        if share == "low" and exact < LEAST_LOW_SHARE:
            continue
        count = bits_to_mask(exact, len(entropy))
        for order in ORDERS:
            after = accuracy(model, encoded, problems, keep_after(order, entropy, count, seed), constants)
            yield Cell(seed=seed, set=name, share=share, masked=count, order=order, before=before, after=after)


def _entropy(moments: Moments, settings: ContrastExperimentConfig) -> Float[Tensor, " bit"]:
    """Entropy of every bit, with or without the correction for small sets."""
    if settings.corrected:
        return bit_entropy(moments.positive, moments.count)
    p = moments.positive / moments.count
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / torch.log(torch.tensor(2.0))
