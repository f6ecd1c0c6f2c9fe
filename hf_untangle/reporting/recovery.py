"""How much of what was lost an attack brought back, in its worst setting, and after how many tokens."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean

from hf_untangle.configs.attack import Attack
from hf_untangle.records.attacks import WHO, AttackOutcome, AttackRecord, Reading, Who
from hf_untangle.reporting import formatting

OTHER_TEXT: tuple[Attack, ...] = ("neighbor", "held-out-facts")
"""Attacks that are measured on other text than the rest."""


def base_of(record: AttackRecord, outcome: AttackOutcome) -> tuple[Reading, ...]:
    """List the models without the attack, measured on the text that it is measured on.

    Args:
        record: The attacks.
        outcome: One of them.

    Returns:
        Its own readings at dose 0 or, where it has none, the models as they are; nothing where its text is another.
    """
    own = tuple(reading for reading in outcome.readings if reading.at == 0 and not reading.condition.startswith("layer"))
    return own or (() if outcome.attack in OTHER_TEXT else record.base)


def came_back(base: Iterable[Reading], readings: Iterable[Reading]) -> list[float]:
    """Compute what share of the lost top-1 accuracy an attack brought back to the unlearned model.

    With a the accuracy under attack, u that of the unlearned and o that of the original model without attack:
    (a - u) / (o - u). It is above 1 where training on the corpus makes the model better at it than the original was.

    Args:
        base: The models without attack, on the same text.
        readings: Readings of one dose.

    Returns:
        One share for each seed; NaN where the model had lost nothing.
    """
    base = tuple(base)
    before, original = (mean_top1(base, role) for role in ("unlearned", "original"))
    lost = original - before
    return [
        (reading.forget.top1 - before) / lost if lost > 0 else math.nan for reading in readings if reading.model == "unlearned"
    ]


def by_dose(readings: Iterable[Reading]) -> list[tuple[float, list[Reading]]]:
    """Put readings of the same dose together.

    Args:
        readings: Readings of one attack.

    Returns:
        Where each dose stands on its axis, in order, with its readings.
    """
    doses: dict[float, list[Reading]] = {}
    for reading in readings:
        doses.setdefault(reading.at, []).append(reading)
    return sorted(doses.items())


def mean_top1(readings: Iterable[Reading], role: Who) -> float:
    """Compute the mean accuracy of one model.

    Args:
        readings: Readings of several models.
        role: Which.

    Returns:
        The mean; NaN where it was not measured.
    """
    values = [reading.forget.top1 for reading in readings if reading.model == role]
    return fmean(values) if values else math.nan


def worst_settings(readings: Sequence[Reading]) -> list[Reading]:
    """Keep, of every model, the readings of the setting that brought back most.

    Args:
        readings: Readings of one attack; all of them are kept where it has one setting.

    Returns:
        Some of them, in the same order.
    """
    worst = {role: worst_setting(readings, role) for role in WHO}
    return [reading for reading in readings if reading.at == 0 or reading.setting == worst[reading.model]]


def worst_setting(readings: Iterable[Reading], role: Who) -> str:
    """Find the setting of an attack that brought back most.

    Args:
        readings: Readings of one attack.
        role: To which model.

    Returns:
        The setting whose best dose has the highest mean accuracy over seeds.
    """
    best: dict[str, float] = {}
    mine = [reading for reading in readings if reading.model == role]
    for setting in dict.fromkeys(reading.setting for reading in mine):
        doses = by_dose(reading for reading in mine if reading.setting == setting)
        best[setting] = max(mean_top1(some, role) for _, some in doses)
    return max(best, key=lambda setting: best[setting], default="")


def tokens_to_recover(record: AttackRecord, outcome: AttackOutcome, role: Who) -> float:
    """Compute after how many tokens of training a model knows half of what was lost, in the setting where it does first.

    Half is the middle between the unlearned and the original model as they are, for every model; between two measurements
    the accuracy is taken to rise in a straight line.

    Args:
        record: The attacks.
        outcome: A training among them.
        role: The model.

    Returns:
        Tokens; 0 for a model that knows so much before, infinite where it never does, NaN where nothing was lost.
    """
    base = base_of(record, outcome)
    before, original, own = (mean_top1(base, one) for one in ("unlearned", "original", role))
    if not original > before:
        return math.nan
    half = (before + original) / 2
    mine = [reading for reading in outcome.readings if reading.model == role and reading.at > 0]
    curves = [
        [(0.0, own), *((at, mean_top1(some, role)) for at, some in by_dose(one for one in mine if one.setting == setting))]
        for setting in dict.fromkeys(reading.setting for reading in mine)
    ]
    return min(_crossing(curve, half) for curve in curves or [[(0.0, own)]]) * record.settings["step_tokens"]


def _crossing(curve: Sequence[tuple[float, float]], level: float) -> float:
    """Where a curve reaches a level first."""
    if curve[0][1] >= level:
        return curve[0][0]
    for (start, low), (end, high) in pairwise(curve):
        if high >= level:
            return start + (end - start) * (level - low) / (high - low)
    return math.inf


def recovery_sentences(record: AttackRecord, outcome: AttackOutcome) -> list[str]:
    """Say of a training in which setting it was worst, and how soon half of what was lost was back.

    Args:
        record: The attacks.
        outcome: One of them.

    Returns:
        Two sentences, or none where it tried no settings.
    """
    if not any(reading.setting for reading in outcome.readings):
        return []
    there: list[Who] = [role for role in WHO if any(reading.model == role for reading in outcome.readings)]
    worst = [f"{role} {worst_setting([one for one in outcome.readings if one.at], role)}" for role in there]
    tokens = {role: tokens_to_recover(record, outcome, role) for role in there}
    sentences = [f"The worst of the settings of {outcome.attack}: {'; '.join(worst)}."]
    if not any(map(math.isnan, tokens.values())):
        most = max(reading.at for reading in outcome.readings) * record.settings["step_tokens"]
        # A model that never fell so far, as the original, has nothing to recover.
        said = "; ".join(f"{role} {_tokens(count, most)}" for role, count in tokens.items() if count or role == "unlearned")
        sentences.append(f"Tokens of {outcome.attack} until half of what was lost is back: {said}.")
    return sentences


def _tokens(count: float, most: float) -> str:
    """Write a number of tokens."""
    return formatting.amount(round(count)) if math.isfinite(count) else f"more than {formatting.amount(round(most))}"
