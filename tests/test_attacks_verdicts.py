"""A verdict compares the worst of an attack with what a model without the capability would show."""

import math

import pytest
from records import an_attack, outcome, reading

from hf_untangle.records.attacks import AttackRecord
from hf_untangle.reporting.recovery import recovery_sentences, tokens_to_recover, worst_settings
from hf_untangle.reporting.verdicts import verdict_lines, verdicts


def with_gold(record: AttackRecord, top1: float) -> AttackRecord:
    return record.model_copy(update={"gold": "gold", "base": (*record.base, reading("gold", top1))})


def judged(record: AttackRecord) -> dict[str, str]:
    return {one.attack: one.judgment for one in verdicts(record)}


@pytest.mark.parametrize(("attacked", "said"), [(0.12, "holds"), (0.25, "leaks"), (0.45, "back")])
def test_beside_a_gold_model_the_share_beyond_it_makes_the_verdict(attacked, said):
    some = (reading("unlearned", attacked, "NF4", 1), reading("original", 0.6, "NF4", 1), reading("gold", 0.1, "NF4", 1))
    assert judged(with_gold(an_attack(outcome("quantize", *some)), 0.1))["quantize"] == said


@pytest.mark.parametrize(("attacked", "said"), [(0.44, "holds"), (0.5, "leaks"), (0.56, "back")])
def test_models_that_never_knew_learn_at_different_speeds_so_that_a_quarter_is_no_leak_by_training(attacked, said):
    some = [reading(who, top1, "3 steps", 3) for who, top1 in (("unlearned", attacked), ("gold", 0.4), ("original", 0.65))]
    assert judged(with_gold(an_attack(outcome("relearn", *some)), 0.1))["relearn"] == said


def test_patching_is_judged_by_controls_of_the_same_code_alone():
    some = [reading(who, top1, "layer 1", 1) for who, top1 in (("unlearned", 0.5), ("original", 0.6), ("gold", 0.1))]
    retain = {"unlearned": 0.3, "original": 0.3, "gold": 0.1}
    known = [one.model_copy(update={"retain": reading(one.model, retain[one.model]).forget}) for one in some]
    record = with_gold(an_attack(outcome("patching", *known)), 0.1)
    base = tuple(one.model_copy(update={"retain": reading(one.model, 0.3).forget}) for one in record.base)
    record = record.model_copy(update={"base": base})
    assert judged(record)["patching"] == "no verdict"
    alike = [one.model_copy(update={"retain": reading("gold", 0.3).forget}) for one in known]
    judgeable = record.model_copy(update={"outcomes": (outcome("patching", *alike),)})
    assert judged(judgeable)["patching"] == "back"


def test_a_checkpoint_read_anew_is_judged_beside_the_models_as_they_are():
    some = (reading("unlearned", 0.6, "adapter off", 2), reading("unlearned", 0.55, "checkpoint read anew", 3))
    assert judged(with_gold(an_attack(outcome("adapter", *some)), 0.1))["adapter"] == "back"
    assert judged(an_attack(outcome("adapter", *some)))["adapter"] == "back", "a random mask is as it was, too"


def test_what_the_gold_model_learns_too_is_no_leak():
    some = [reading(who, top1, "3 steps", 3) for who, top1 in (("unlearned", 0.4), ("gold", 0.4), ("original", 0.65))]
    assert judged(with_gold(an_attack(outcome("relearn", *some)), 0.1))["relearn"] == "holds"


def test_without_a_gold_model_the_gain_of_a_random_mask_is_repair():
    shown = [("unlearned", 0.18), ("original", 0.62), ("random mask", 0.6)]
    some = [reading(who, top1, "3 steps", 3) for who, top1 in shown]
    (found,) = [one for one in verdicts(an_attack(outcome("relearn", *some))) if one.attack == "relearn"]
    assert found.expected == pytest.approx(0.1 + 0.6 - 0.52)
    assert found.judgment == "holds"


def test_without_a_gold_model_or_a_random_mask_there_is_no_verdict():
    some = (reading("unlearned", 0.5, "NF4", 1), reading("original", 0.6, "NF4", 1))
    assert judged(an_attack(outcome("quantize", *some)))["quantize"] == "no verdict"


def test_the_worst_dose_and_setting_count_and_attacks_without_readings_were_not_run():
    ways = (("a", 0.2, 2), ("a", 0.3, 3), ("b", 0.5, 2), ("b", 0.4, 3))
    some = [reading("unlearned", top1, f"{at} steps", at).model_copy(update={"setting": way}) for way, top1, at in ways]
    record = an_attack(outcome("relearn", *some), outcome("quantize"))
    found = {one.attack: one for one in verdicts(record)}
    assert (found["relearn"].dose, found["relearn"].worst) == ("2 steps, b", 0.5)
    assert {one.setting for one in worst_settings(some)} == {"b"}
    assert "Not run: quantize, few-shot" in verdict_lines(record)[-1]


def test_an_adapter_that_is_switched_off_is_not_judged():
    some = (reading("unlearned", 0.6, "adapter off", 2), reading("unlearned", 0.1, "checkpoint read anew", 3))
    (found,) = [one for one in verdicts(an_attack(outcome("adapter", *some))) if one.attack == "adapter"]
    assert found.worst == 0.1


def test_half_is_back_where_the_curve_crosses_the_middle():
    curve = [reading("unlearned", top1, f"{at} steps", at) for at, top1 in ((2, 0.3), (4, 0.4))]
    record = an_attack(outcome("relearn", *curve))
    assert tokens_to_recover(record, record.outcomes[0], "unlearned") == pytest.approx(256 * 3)
    assert tokens_to_recover(record, record.outcomes[0], "original") == 0
    slow = an_attack(outcome("relearn", curve[0]))
    assert math.isinf(tokens_to_recover(slow, slow.outcomes[0], "unlearned"))


def test_what_never_lost_half_has_no_tokens_to_recover():
    some = [reading(who, top1, "3 steps", 3) for who, top1 in (("unlearned", 0.5), ("original", 0.62), ("random mask", 0.6))]
    some = [one.model_copy(update={"setting": "full, 0.001, no warm-up"}) for one in some]
    record = an_attack(outcome("relearn", *some))
    (said,) = [one for one in recovery_sentences(record, record.outcomes[0]) if one.startswith("Tokens")]
    assert "unlearned" in said and "original" not in said and "random mask" not in said
