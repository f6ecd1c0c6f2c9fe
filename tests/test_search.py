"""The loop: what goes, when it ends, and which step is chosen."""

import math
from typing import Any

import pytest
import torch
from toy_languages import SMALL

from hf_untangle.architecture.forward import BACKWARD
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.unlearn import PRESETS, UnlearnConfig
from hf_untangle.errors import BudgetError, StatisticsError
from hf_untangle.evaluation.next_token import TRIED, NextTokenMetrics
from hf_untangle.importance.registry import IMPORTANCE, needs_of
from hf_untangle.importance.scores import SCORES
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.pruning import iterative, judging
from hf_untangle.pruning.iterative import Search
from hf_untangle.pruning.judging import judge, origin_on
from hf_untangle.pruning.step import Pair, gradient_blocks
from hf_untangle.records.unlearning import Scores
from hf_untangle.statistics.collect import collect


def without_seconds(search: Search) -> str:
    """A history without times, and without counts, which are a few tokens more on a model that is seen for the first time."""
    return search.history.model_copy(
        update={"steps": tuple(step.model_copy(update={"seconds": 0.0, "forward_tokens": 0}) for step in search.history.steps)}
    ).model_dump_json()


def test_forget_falls_retain_stays_and_a_random_mask_does_neither(finished):
    base, step = finished.history.base, finished.history.step
    assert base.forget.top1 > 0.5 and base.retain.top1 > 0.5
    assert step.scores.forget_drop(base) > 0.4
    assert step.scores.retain_drop(base) < 0.1
    assert step.controls[0].selectivity(base) < step.scores.selectivity(base) / 2
    assert step.controls[0].retain_drop(base) > step.scores.retain_drop(base)
    assert finished.history.max_selectivity() >= step.scores.selectivity(base)


def test_each_step_removes_a_fraction_of_the_original_width_and_keeps_what_was_removed(finished):
    assert [step.removed for step in finished.history.steps] == [{"ffn": 51 * n, "attention": 3 * n} for n in (1, 2, 3, 4)]
    for weaker, stronger in zip(finished.masks, finished.masks[1:], strict=False):
        assert weaker & stronger == stronger


def test_the_history_is_what_the_masks_measure(finished, toy_model, pairs):
    how = {"batch_size": 16, "progress": False}
    origin = origin_on(toy_model, pairs[1], **how)
    assert origin.scores == finished.history.base == judge(toy_model, pairs[1], **how)
    with masked(toy_model, finished.mask):
        assert judge(toy_model, pairs[1], **how, origin=origin) == finished.history.step.scores


def test_the_same_seed_gives_the_same_run(finished, search):
    again = search()
    assert again.masks == finished.masks
    assert without_seconds(again) == without_seconds(finished)


def test_another_seed_changes_the_random_masks_alone(finished, search):
    other = search(seed=1)
    assert other.masks == finished.masks
    assert [step.scores for step in other.history.steps] == [step.scores for step in finished.history.steps]
    one, another = (found.history.steps[found.history.chosen - 1].controls for found in (other, finished))
    assert one != another and one and another


def test_as_many_random_masks_are_tried_as_asked_for(search):
    assert [len(step.controls) for step in search(controls=0, steps=1).history.steps] == [0]
    assert len(set(search(controls=3, steps=1).history.steps[0].controls)) == 3


def test_a_run_leaves_the_model_as_it_was(search, toy_model, untouched):
    toy_model.train()
    with untouched(toy_model):
        search()


def test_statistics_of_the_original_model_come_with_the_result(finished, toy_model, pairs):
    for mine, blocks in ((finished.forget, pairs[0].forget), (finished.retain, pairs[0].retain)):
        fresh = collect(toy_model, blocks, batch_size=16, progress=False)
        assert all(torch.equal(mine[name].absolute, fresh[name].absolute) for name in fresh)


def reference_masks(model, pairs: tuple[Pair, Pair], config: UnlearnConfig) -> list[NeuronMask]:
    """The published method, kind by kind: mean |z| ratio, top k of the original width, again on the pruned model."""
    groups = neuron_groups(model)
    masks = [NeuronMask.keep_all(groups, "m")]
    for _ in range(config.steps):
        with masked(model, masks[-1]):
            forget, retain = (
                collect(model, blocks, batch_size=config.batch_size, progress=False)
                for blocks in (pairs[0].forget, pairs[0].retain)
            )
        kept = {name: vector.clone() for name, vector in masks[-1].items()}
        for kind, eps, fraction in (("ffn", 1e-3, 0.02), ("attention", 1e-4, 0.005)):
            ranked = [
                (
                    float(forget[group.name].absolute[n] / forget[group.name].count)
                    / (float(retain[group.name].absolute[n] / retain[group.name].count) + eps),
                    group.name,
                    n,
                )
                for group in groups
                if group.kind == kind
                for n in range(group.size)
                if kept[group.name][n]
            ]
            width = sum(group.size for group in groups if group.kind == kind)
            for _, name, n in sorted(ranked, reverse=True)[: int(fraction * width)]:
                kept[name][n] = False
        masks.append(masks[-1].with_kept(kept))
    return masks[1:]


def test_the_papers_preset_is_the_published_method_step_by_step(search, toy_model, pairs):
    config = PRESETS["paper"].with_settings(**SMALL, packed=True, steps=3)
    found = search(config)
    assert [step.removed for step in found.history.steps] == [{"ffn": 10 * n, "attention": 0} for n in (1, 2, 3)]
    assert list(found.masks) == reference_masks(toy_model, pairs, config)


def test_the_papers_preset_has_the_published_settings():
    paper = PRESETS["paper"]
    assert (paper.importance, paper.score, paper.scope, paper.iterative) == ("abs", "ratio", "global", True)
    assert (paper.ffn_fraction, paper.attention_fraction, paper.steps) == (0.02, 0.005, 50)
    assert (paper.ffn_eps, paper.attention_eps, paper.veto) == ("0.001", "0.0001", 0)
    assert (paper.tokens, paper.block_size, paper.bos) == (100_000, 1000, "count")


def test_without_iteration_the_original_statistics_decide_every_step(search, monkeypatch):
    collected = []
    again = iterative.gather_again
    monkeypatch.setattr(iterative, "gather_again", lambda *args, **how: collected.append(how["step"]) or again(*args, **how))
    once, iterated = search(iterative=False, steps=3), search(steps=3)
    assert collected == [2, 3]
    assert once.masks[0] == iterated.masks[0]
    assert once.masks[2] != iterated.masks[2]


def test_the_work_of_a_search_is_counted_and_later_steps_read_no_statistics_of_their_own(search, pairs):
    train, validation = pairs
    width, controls = train.forget.width, 1
    found = search(steps=3, controls=controls, retain_budget=1.0, perplexity_budget=math.inf, gradient_tokens=4 * width)
    first, *later = [step.forward_tokens for step in found.history.steps]
    judged = sum(len(blocks.counted) * width for blocks in (validation.forget, validation.retain))
    read = sum(len(blocks.counted) * width for blocks in (train.forget, train.retain))
    gradients = (2 + 4) * width * (1 + BACKWARD)
    # The head of a model is tried once, on six tokens, whole and body alone.
    assert first in (read + gradients + 2 * judged, read + gradients + 2 * judged + 2 * TRIED)
    assert later == [gradients + judged] * 2


def test_every_step_takes_its_gradients_on_other_blocks_until_there_are_no_more(pairs):
    train, _ = pairs
    config = UnlearnConfig(gradient_tokens=4 * train.retain.width)
    there = len(train.retain.counted)
    for step in (1, 2, 3):
        rows = [(4 * (step - 1) + n) % there for n in range(min(4, there))]
        few: Any = gradient_blocks(train, config, step)
        assert torch.equal(few.retain.input_ids, train.retain.input_ids[rows])
        assert len(few.forget.counted) == 2


OF_TWO_CORPORA = [name for name in IMPORTANCE if "second moments" not in needs_of(name)]


@pytest.mark.parametrize(
    ("importance", "score"), [*((one, "ratio") for one in OF_TWO_CORPORA), *(("abs", one) for one in SCORES)]
)
def test_any_importance_and_any_score_may_decide(search, importance, score):
    found = search(importance=importance, score=score, steps=1, controls=0, retain_budget=1.0, perplexity_budget=math.inf)
    assert found.history.steps[0].removed == {"ffn": 51, "attention": 3}


@pytest.mark.parametrize(("scope", "removed"), [("layer", {"ffn": 50, "attention": 2}), ("head", {"ffn": 51, "attention": 8})])
def test_layers_or_heads_may_compete(search, scope, removed):
    found = search(scope=scope, attention_fraction=0.05 if scope == "layer" else 0.125, steps=1, retain_budget=1.0)
    assert found.history.steps[0].removed == removed


def scripted(*retain_and_forget: tuple[float, float], perplexities: tuple[float, ...] = ()) -> list[Scores]:
    """Scores with these top-1 accuracies on retain and forget, and with these retain perplexities."""
    factors = [*perplexities, *[1.0] * len(retain_and_forget)]
    return [
        Scores(forget=NextTokenMetrics(100, forget, 1.0, 1.0), retain=NextTokenMetrics(100, retain, 1.0, math.log(factor)))
        for (retain, forget), factor in zip(retain_and_forget, factors, strict=False)
    ]


@pytest.fixture
def judged(search, monkeypatch):
    """Run the loop with scores that are made up: first those of the original, then those of each step."""

    def run(scores: list[Scores], **settings: object) -> Search:
        script = iter(scores)
        monkeypatch.setattr(judging, "scores_of", lambda *_, **__: next(script))
        limits = {"steps": len(scores) - 1, "retain_budget": 0.1, "perplexity_budget": 2.0, "bisections": 0}
        return search(controls=0, ffn_fraction=0.02, **limits | settings)

    return run


def test_the_most_selective_step_inside_the_budget_is_chosen(judged):
    history = judged(scripted((0.5, 0.5), (0.5, 0.4), (0.48, 0.2), (0.46, 0.19), (0.44, 0.0))).history
    assert (len(history.steps), history.chosen) == (4, 2)
    assert history.max_selectivity() == pytest.approx(1 - 0.12)


def test_a_collapsed_last_step_is_not_chosen_even_when_it_is_the_most_selective(judged):
    history = judged(scripted((0.5, 0.5), (0.5, 0.4), (0.2, 0.0))).history
    assert (len(history.steps), history.chosen) == (2, 1)


def test_a_run_ends_with_the_first_step_over_its_budget(judged):
    history = judged(scripted((0.5, 0.5), (0.5, 0.4), (0.46, 0.2), (0.44, 0.1), (0.5, 0.0))).history
    assert (len(history.steps), history.chosen) == (3, 2)


def test_perplexity_has_a_budget_of_its_own(judged):
    history = judged(scripted((0.5, 0.5), (0.5, 0.4), (0.5, 0.1), perplexities=(1.0, 1.9, 2.1))).history
    assert history.chosen == 1


def test_a_run_ends_when_perplexity_explodes(judged):
    history = judged(scripted((0.5, 0.5), (0.5, 0.4), (0.5, 0.1), perplexities=(1.0, 1.9, 4.1)), steps=9).history
    assert (len(history.steps), history.chosen) == (2, 1)


@pytest.mark.parametrize(
    ("bisections", "parts", "share", "forget"),
    [
        (1, [(0.46, 0.2)], 0.5, 0.2),
        (2, [(0.46, 0.2), (0.46, 0.15)], 0.75, 0.15),
        (3, [(0.46, 0.2), (0.44, 0.15), (0.46, 0.18)], 0.625, 0.18),
        (3, [(0.44, 0.2), (0.46, 0.3), (0.44, 0.25)], 0.25, 0.3),
        (3, [(0.44, 0.2), (0.44, 0.3), (0.46, 0.35)], 0.125, 0.35),
    ],
)
def test_of_a_step_over_the_budget_the_largest_part_is_taken_that_fits(judged, bisections, parts, share, forget):
    found = judged(scripted((0.5, 0.5), (0.5, 0.4), (0.4, 0.1), *parts, (0.5, 0.0)), bisections=bisections)
    first, last = found.history.steps
    assert (first.share, last.share, last.scores.forget.top1, found.history.chosen) == (1.0, share, forget, 2)
    taken, whole = last.removed["ffn"] - first.removed["ffn"], first.removed["ffn"]
    assert taken == pytest.approx(share * whole, abs=1)


def test_a_step_of_which_no_part_fits_ends_the_run_before_it(judged):
    found = judged(scripted((0.5, 0.5), (0.5, 0.4), *[(0.4, 0.1)] * 4), bisections=3)
    assert ([step.share for step in found.history.steps], found.history.chosen) == ([1.0, 0.125], 1)


def test_parts_of_a_step_are_nested_in_it(judged):
    script = ((0.5, 0.5), (0.4, 0.1), (0.46, 0.3))
    part, whole = (judged(scripted(*script), bisections=n, retain_budget=budget).mask for n, budget in ((1, 0.1), (0, 0.5)))
    assert part | whole == part and 0 < part.removed() < whole.removed()


def test_a_run_ends_at_the_forget_target(judged):
    history = judged(scripted((0.5, 0.5), (0.5, 0.4), (0.5, 0.2), (0.5, 0.1)), forget_target=0.6).history
    assert (len(history.steps), history.chosen) == (2, 2)


def test_a_run_that_is_not_selective_is_an_error(judged, toy_model, untouched):
    with untouched(toy_model), pytest.raises(BudgetError, match="must lose more than the retain corpus.*Nothing was removed"):
        judged(scripted((0.5, 0.5), (0.48, 0.49)))


def test_without_any_budget_the_curve_is_kept_though_no_step_gains(judged, caplog):
    script = scripted((0.5, 0.5), (0.45, 0.48), (0.4, 0.45), (0.2, 0.3))
    history = judged(script, retain_budget=1.0, perplexity_budget=math.inf).history
    assert (len(history.steps), history.chosen) == (3, 1)
    assert (
        "No step of the curve takes more from the forget corpus than from the retain corpus: at best 4.0% and 10.0%"
        in caplog.text
    )


def test_a_step_that_breaks_the_model_ends_the_run_before_it(search, monkeypatch, caplog):
    script = iter(scripted((0.5, 0.5), (0.5, 0.4)))

    def scores_of(*_: object, **__: object) -> Scores:
        try:
            return next(script)
        except StopIteration:
            raise StatisticsError("The loss must be a number, but it is NaN.") from None

    monkeypatch.setattr(judging, "scores_of", scores_of)
    history = search(controls=0, steps=4).history
    assert (len(history.steps), history.chosen) == (1, 1)
    assert "The run ends with step 1" in caplog.text and "NaN" in caplog.text


def test_a_budget_that_the_first_step_breaks_is_an_error_that_says_what_it_costs(judged, toy_model, untouched):
    message = (
        r"a relative retain drop of 10.0%, and 2 times the perplexity.*but the first one costs 20.0% and 1.50 times. "
        "Nothing was removed. Allow a larger retain_budget, or take smaller steps"
    )
    with untouched(toy_model), pytest.raises(BudgetError, match=message):
        judged(scripted((0.5, 0.5), (0.4, 0.0), perplexities=(1.0, 1.5)))


def test_a_budget_of_nothing_is_broken_by_the_first_step(search, toy_model, untouched):
    with untouched(toy_model), pytest.raises(BudgetError, match="a relative retain drop of 0.0%"):
        search(ffn_fraction=0.5, attention_fraction=0.5, retain_budget=0.0)


@pytest.mark.parametrize(("retain", "forget", "name"), [(0.5, 0.0, "forget"), (0.0, 0.5, "retain")])
def test_a_model_that_never_knew_a_corpus_is_refused(judged, retain, forget, name):
    with pytest.raises(StatisticsError, match=f"must predict some of the {name} corpus .* top-1 accuracy .* is 0"):
        judged(scripted((retain, forget), (0.5, 0.5)))
