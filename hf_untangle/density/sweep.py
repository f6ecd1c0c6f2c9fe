"""The sweep: take away more and more of a trained network, never retrain, and see when its metric falls."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.density import weight_scores
from hf_untangle.density.crossing import Curve, around_crossings, first_crossing, last_crossing
from hf_untangle.density.keywords import SweepSettings
from hf_untangle.density.measure import Evaluate, Measure, as_measure
from hf_untangle.density.neurons import neuron_units, score_neurons
from hf_untangle.density.result import CurvePoint, DensityResult, TensorShare
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.density.tolerance import TOLERANCES, check_resolution, resolution
from hf_untangle.density.units import Removal, Units
from hf_untangle.density.weights import WeightScore, weight_units
from hf_untangle.errors import StatisticsError
from hf_untangle.progress import track

logger = logging.getLogger("hf_untangle")


@checked_arguments
@all_or_nothing
def sweep(
    model: nn.Module | ModelName,
    evaluate: Evaluate | Measure | CorpusSource,
    *,
    config: SweepConfig | str = "default",
    scores: Mapping[str, Tensor] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    progress: bool = True,
    **settings: Unpack[SweepSettings],
) -> DensityResult:
    """Find how much of a trained network can go, in one shot and without retraining, before its metric falls too far.

    For every share s of a grid the floor(s N) lowest scores of all N weights are zero, starting each time from the trained
    network, and the metric a(s) is measured. The prunable share is the largest s before the first a(s) outside the limit; the
    density is 1 less that. The published protocol says "lowest magnitude" and "until accuracy has dropped by 5%"; whatever
    else it leaves open is a field of `SweepConfig`.

    The model is back bit for bit afterwards, also after an error. On the host there is one copy of the prunable weights, and
    beside it no more than what ranking one tensor takes.

    Args:
        model: Any module, for single weights; a decoder from transformers, for neurons. A name or path is loaded.
        evaluate: A function from the model to an accuracy (or a mean loss, for the tolerances `loss` and `perplexity`); a
            `Measure`; or a corpus, whose validation part a causal language model is judged on by its next tokens.
        config: Settings, or the name of a preset: what goes, what it is ranked by, and how far the metric may fall.
        scores: A ranking of the caller's, instead of the settings' score: for each parameter a tensor of its shape, or for each
            neuron group a vector, by name. The lowest go first.
        tokenizer: For a corpus; found by the model's name when None.
        progress: Whether to show a progress bar.
        **settings: Fields of `SweepConfig` that override `config`.

    Returns:
        The crossings, the curve, and where the weights went.

    Raises:
        ConfigError: A setting is unknown or out of its range, or the evaluation set is too small for the tolerance.
        StatisticsError: The metric of the whole network is no number.
        ArchitectureError: There is nothing that can be pruned.
        MaskError: The weights are quantized, sharded or not loaded.
    """
    start = time.perf_counter()
    config = SweepConfig.resolve(config, **settings)
    tolerance = TOLERANCES[config.tolerance]
    model = opened(model)
    with evaluation_mode(model), torch.no_grad():
        measure = as_measure(model, evaluate, tokenizer, tolerance.metric)
        units = _units(model, config, scores, measure.calibrate)
        base = _checked(float(measure.evaluate(model)))
        limit = tolerance.limit(base, config.allowance)
        step = resolution(tolerance.metric, measure.examples)
        check_resolution(base, limit, step)
        curve, removals = _trace(model, units, measure.evaluate, base, limit, config, progress)

    def holds(value: float) -> bool:
        return tolerance.holds(value, limit)

    first = first_crossing(curve, holds)
    falls = first < max(curve)
    if not falls:
        logger.warning("The metric never left its limit: %d%% of all %s can go.", round(100 * first), config.unit)
    core = removals[first]
    return DensityResult(
        config=config,
        base=base,
        limit=limit,
        first=first,
        last=last_crossing(curve, holds),
        curve=tuple(CurvePoint(share, value, removals[share].parameters) for share, value in curve.items()),
        tensors=tuple(TensorShare(name, size, core.removed.get(name, 0)) for name, size in units.sizes.items()),
        parameters=units.parameters,
        unprunable=units.parameters - core.parameters,
        falls=falls,
        skipped=units.skipped,
        resolution=step,
        seconds=time.perf_counter() - start,
    )


def _units(
    model: nn.Module, config: SweepConfig, scores: Mapping[str, Tensor] | None, run: Callable[[nn.Module], object]
) -> Units:
    """Find what may go, and rank it."""
    if config.unit == "neurons":
        groups = neuron_groups(model)
        return neuron_units(model, config, scores or score_neurons(model, groups, config, run), groups)
    return weight_units(model, config, _weight_score(model, config, scores, run))


def _weight_score(
    model: nn.Module, config: SweepConfig, scores: Mapping[str, Tensor] | None, run: Callable[[nn.Module], object]
) -> WeightScore:
    """What single weights are ranked by."""
    if scores is not None:
        return weight_scores.given(scores)
    if config.score == "magnitude":
        return weight_scores.magnitude
    if config.score == "random":
        return weight_scores.random(config.seed)
    return weight_scores.wanda(model, run)


def _checked(base: float) -> float:
    """Refuse a metric that is no number on the whole network."""
    if not math.isfinite(base):
        raise StatisticsError(
            f"The metric of the whole network must be a finite number, but it is {base}. Check what evaluates it, and that the "
            "weights are whole."
        )
    return base


def _trace(
    model: nn.Module,
    units: Units,
    evaluate: Evaluate,
    base: float,
    limit: float,
    config: SweepConfig,
    progress: bool,
) -> tuple[Curve, dict[float, Removal]]:
    """Measure the grid, then the shares around the crossings."""
    removals = {0.0: Removal({}, 0)}

    def values_at(shares: Sequence[float]) -> Curve:
        values = {}
        with track(f"density by {config.score}", len(shares), unit="share", progress=progress) as bar:
            for share in shares:
                with units.without(share) as removals[share]:
                    values[share] = float(evaluate(model))
                bar.update()
        return values

    curve = {0.0: base} | values_at(config.grid)
    curve |= values_at(around_crossings(curve, partial(TOLERANCES[config.tolerance].holds, limit=limit), config.refine))
    return dict(sorted(curve.items())), removals
