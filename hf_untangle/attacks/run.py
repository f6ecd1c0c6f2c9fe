"""Run attacks on a model that has unlearned, beside the original and random changes: one call, one report."""

import logging
import time
from dataclasses import replace
from datetime import date
from typing import Unpack

from transformers import PreTrainedModel

from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments
from hf_untangle.attacks.context import Scene
from hf_untangle.attacks.registry import ATTACKS
from hf_untangle.attacks.report import AttackReport
from hf_untangle.attacks.saved import read_saved
from hf_untangle.attacks.subject import Unlearned, scene_of
from hf_untangle.attacks.weight_space import weight_space
from hf_untangle.by_name import ModelName
from hf_untangle.configs.attack import Attack, AttackConfig, attack_work
from hf_untangle.configs.keywords import AttackSettings
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.distributed import place
from hf_untangle.errors import ConfigError
from hf_untangle.progress import one_bar, phase, plan_work, predict
from hf_untangle.pruning.work import seconds_per_token
from hf_untangle.records.attacks import AttackOutcome, AttackRecord, Reading, Who
from hf_untangle.records.provenance import device_name
from hf_untangle.records.saved import result_folder
from hf_untangle.records.unlearning import Scores

logger = logging.getLogger("hf_untangle")


@checked_arguments
@all_or_nothing
def attack(
    result: Unlearned | ModelName,
    *,
    original: PreTrainedModel | ModelName | None = None,
    gold: PreTrainedModel | ModelName | None = None,
    neighbor: CorpusSource | None = None,
    config: AttackConfig | str = "default",
    progress: bool = True,
    **settings: Unpack[AttackSettings],
) -> AttackReport:
    """Try to get back what a model has unlearned, in copies of it, and measure how much comes.

    Every attack is run on the original model and on random masks of equal size too, or on random updates where weights were
    trained. What the original gains under it is headroom, and what a random change gets back is repair of damage. An attack
    that fails, or meets its time limit, keeps what it has measured, and the others continue.

    Args:
        result: What `unlearn` gave, or where it was saved: a folder, or `user/name` on the Hub. Its model is left as it is.
        original: The model before unlearning, or its name; the name in the record when None.
        gold: A model that never learnt the forget corpus, or its name, where there is one.
        neighbor: A corpus near to the forget corpus, such as a paraphrase of it; for `code` and `python`, programs in other
            languages when None.
        config: Settings, or the name of a preset: `default`, or `quick`, which fits ten minutes for SmolLM2 on two cores.
        progress: Whether to show progress bars.
        **settings: Fields of `AttackConfig`, such as `attacks=["relearn", "quantize"]`, `seeds` or `max_seconds`.

    Returns:
        The report: every reading, a table, and a figure.

    Raises:
        ConfigError: A setting is unknown or out of its range, the model is no causal language model, the original is not the
            one that the result was made from, or there are several processes.
    """
    config = AttackConfig.resolve(config, **settings)
    if isinstance(result, ModelName):
        result = read_saved(result_folder(result), dtype="checkpoint")
    _check(result)
    return AttackReport(run_attacks(scene_of(result, config, original, gold, neighbor), progress=progress))


@one_bar("attacking")
def run_attacks(scene: Scene, *, progress: bool = True) -> AttackRecord:
    """Run every attack of the settings.

    Args:
        scene: The models, text and settings.
        progress: Whether to show a progress bar.

    Returns:
        The record. An attack that the time for all leaves nothing for is in it without readings.
    """
    start, config = time.perf_counter(), scene.config
    end = start + (config.total_seconds or float("inf"))
    plan_work(attack_work(config))
    if progress:
        quick = {"config='quick'": attack_work(AttackConfig.presets()["quick"])}
        predict(lambda: seconds_per_token(scene.unlearned, scene.forget), quick, at_most=config.total_seconds)
    phase("models as they are")
    base = _as_they_are(scene)
    moved = weight_space(scene, *(_scores_in(base, who) for who in ("original", "unlearned"))) if config.weight_space else None
    outcomes = []
    for number, name in enumerate(config.attacks, 1):
        phase(f"{name}, attack {number} of {len(config.attacks)}")
        outcomes.append(_carry_out(name, scene, end))
        logger.info("Attack %s: %.0f s. %s", name, outcomes[-1].seconds, outcomes[-1].error or "")
    return AttackRecord(
        settings=config.model_dump(mode="json"),
        original=str(scene.original.name_or_path),
        gold=None if scene.gold is None else str(scene.gold.name_or_path),
        corpus=scene.forget.record(),
        base=base,
        outcomes=tuple(outcomes),
        weight_space=moved,
        device=device_name(scene.unlearned),
        date=date.today().isoformat(),
        seconds=time.perf_counter() - start,
    )


def _carry_out(name: Attack, scene: Scene, end: float) -> AttackOutcome:
    """Run one attack until it ends, fails, or is late; where the time for all is over, it does not begin."""
    start, stopped, error = time.perf_counter(), False, None
    if start > end:
        return AttackOutcome(attack=name, readings=(), findings=(), seconds=0.0, stopped=True, error=None)
    readings: list[Reading] = []
    findings: list[str] = []
    scene = replace(scene, deadline=min(end, start + scene.config.max_seconds))
    try:
        for found in ATTACKS[name](scene):
            findings.append(found) if isinstance(found, str) else readings.append(found)
            stopped = scene.is_late()
            if stopped:
                break
    except Exception as problem:  # Whatever it is, the other attacks are worth their results.
        error = f"{type(problem).__name__}: {problem}"
    return AttackOutcome(
        attack=name,
        readings=tuple(readings),
        findings=tuple(findings),
        seconds=time.perf_counter() - start,
        stopped=stopped,
        error=error,
    )


def _as_they_are(scene: Scene) -> tuple[Reading, ...]:
    """Measure every model before any attack."""
    return tuple(
        Reading(model=who, condition="as it is", at=0, forget=scores.forget, retain=scores.retain, seed=seed)
        for who, seed, model in scene.victims()
        for scores in [scene.judge(model)]
    )


def _scores_in(base: tuple[Reading, ...], who: Who) -> Scores:
    """What one model knows of both corpora as it is."""
    one = next(one for one in base if one.model == who)
    assert one.retain is not None
    return Scores(forget=one.forget, retain=one.retain)


def _check(result: Unlearned) -> None:
    """Refuse what cannot be attacked."""
    if result.record.task != "next token":
        raise ConfigError(f"Attacks are for causal language models, but this one predicts a {result.record.task}.")
    if place()[1] > 1:
        raise ConfigError(
            f"Attacks run in one process, as their time limits do, but there are {place()[1]}. Save the result, and run "
            "`hf-untangle attack FOLDER` without a launcher."
        )
