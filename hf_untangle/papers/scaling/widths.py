"""The same sweep on networks of many widths."""

import time
from collections.abc import Sequence
from typing import Any

from hf_untangle.arguments import checked_arguments
from hf_untangle.density.sweep import sweep
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.errors import ConfigError
from hf_untangle.papers.scaling.families import Family, Width, family_of
from hf_untangle.papers.scaling.scaling import Run, ScalingResult
from hf_untangle.progress import track


@checked_arguments
def across_widths(
    family: str | Family,
    widths: Sequence[Width],
    seeds: Sequence[int] = (0, 1, 2),
    *,
    config: SweepConfig | str = "default",
    control: bool = True,
    progress: bool = True,
    **settings: Any,
) -> ScalingResult:
    """Train or load a family at many widths, sweep each network, and fit how its core grows.

    With N prunable parameters and s the prunable share, log(N (1 - s)) is fitted against log N over all widths and seeds: a
    slope of 1 says that the share does not depend on the size, 0 that the core does not grow at all.

    Args:
        family: `mlp`, `convolutional`, `residual`, `gpt2`, `llama`, a pattern of Hub names such as `EleutherAI/pythia-{}`, or
            what `image_family`, `language_family` or `pretrained_family` makes.
        widths: Increasing; for a pattern, what stands in its place.
        seeds: One network is trained for each.
        config: Settings of every sweep, or the name of a preset.
        control: Whether to sweep each network in random order too.
        progress: Whether to show a progress bar.
        **settings: Fields of `SweepConfig` that override `config`.

    Returns:
        All runs, with their summary, the fit, and the claims that hold.

    Raises:
        ConfigError: There is no such family or setting, or no width or seed.
    """
    start = time.perf_counter()
    config, found = SweepConfig.resolve(config, **settings), family_of(family)
    if not widths or not seeds or len(set(widths)) < len(widths):
        raise ConfigError(f"widths must be different and seeds at least one, got {list(widths)} and {list(seeds)}.")
    cells = [(width, seed) for width in widths for seed in seeds]
    runs = []
    with track(found.name, len(cells), unit="network", progress=progress) as bar:
        for width, seed in cells:
            runs.append(_run(found, width, seed, config, control))
            bar.update()
    runs.sort(key=lambda run: run.parameters)
    return ScalingResult(found.name, config, tuple(runs), time.perf_counter() - start)


def _run(family: Family, width: Width, seed: int, config: SweepConfig, control: bool) -> Run:
    """Train or load one network, and sweep it."""
    member = family.member(width, seed, config.tolerance)
    result = sweep(member.model, member.measure, config=config, progress=False)
    chance = None
    if control:
        chance = sweep(member.model, member.measure, config=config, score="random", seed=seed, progress=False).first
    return Run(width, seed, result.parameters, result.base, result.first, result.last, result.unprunable, chance)
