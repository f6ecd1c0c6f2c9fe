"""Budgets of what a run may cost: judged beside the original with an error, in expectation or with confidence."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.resources import files
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from toy_languages import BLOCK, NUMBERS, SMALL, WORDS

from hf_untangle.architecture.forward import forward_tokens
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import as_many_blocks, token_blocks
from hf_untangle.data.corpora import corpus
from hf_untangle.data.held_out import spread_order
from hf_untangle.data.splits import PARTS
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.block_sums import BlockSums
from hf_untangle.evaluation.intervals import ratio_error, t_quantile
from hf_untangle.evaluation.kl_to_original import metrics_and_divergence, reference_predictions, reference_sums
from hf_untangle.evaluation.next_token import NextTokenMetrics, next_token_metrics
from hf_untangle.evaluation.prediction import prediction_sums
from hf_untangle.masks.by_hooks import masked
from hf_untangle.pruning import judging, measuring
from hf_untangle.pruning.budget import is_close, is_inside
from hf_untangle.pruning.judging import Judge, judge, origin_on
from hf_untangle.pruning.measuring import Sums, paired, parts_of
from hf_untangle.pruning.reading import read_pairs
from hf_untangle.pruning.step import Pair
from hf_untangle.pruning.tasks import open_pair
from hf_untangle.records.scores import Estimate, Paired, Scores

QUIET = {"batch_size": 16, "progress": False}


@pytest.mark.parametrize(
    ("confidence", "degrees", "value"),
    [(0.975, 1, 12.706), (0.95, 2, 2.920), (0.975, 3, 3.182), (0.975, 4, 2.776), (0.95, 5, 2.015), (0.975, 23, 2.069)],
)
def test_quantiles_are_those_of_the_table(confidence, degrees, value):
    assert t_quantile(confidence, degrees) == pytest.approx(value, rel=2e-3)
    assert t_quantile(1 - confidence, degrees) == pytest.approx(-t_quantile(confidence, degrees))
    assert t_quantile(0.5, degrees) == pytest.approx(0)


def test_the_error_of_a_mean_over_equal_blocks_is_that_of_any_mean():
    values = torch.tensor([1.0, 4.0, 2.0, 9.0]).double()
    ten = torch.full((4,), 10.0).double()
    assert ratio_error(values, ten) == pytest.approx(float((values / 10).std()) / math.sqrt(4))
    assert ratio_error(3 * ten, ten) == 0
    assert math.isnan(ratio_error(values[:1], ten[:1]))


def test_the_error_of_a_ratio_is_that_of_resampled_blocks():
    generator = torch.Generator().manual_seed(0)
    under = 100 + 60 * torch.rand(40, generator=generator).double()
    over = under * (0.9 + 0.1 * torch.randn(40, generator=generator).double())
    drawn = torch.randint(40, (4000, 40), generator=generator)
    resampled = over[drawn].sum(1) / under[drawn].sum(1)
    assert ratio_error(over, under) == pytest.approx(float(resampled.std()), rel=0.05)
    # What both models share cancels: of models on blocks of their own, the ratio is less certain.
    apart = over[drawn].sum(1) / under[drawn.flip(0)].sum(1)
    assert ratio_error(over, under) < 0.6 * float(apart.std())


def sums(hits: list[float], loss: list[float], tokens: float = 10, divergence: list[float] | None = None) -> BlockSums:
    rows = [[hit, 10.0, lost, tokens] for hit, lost in zip(hits, loss, strict=True)]
    return BlockSums(torch.tensor(rows).double(), None if divergence is None else torch.tensor(divergence).double())


def test_what_changed_by_hand():
    found = paired(sums([4, 3], [20, 24], divergence=[1, 3]), sums([5, 5], [10, 10]))
    assert found is not None and found.disruption is not None
    assert (found.tokens, found.drop.blocks) == (20, 2)
    assert found.drop.value == pytest.approx(0.3) and found.drop.error == pytest.approx(0.1)
    assert found.loss_rise.value == pytest.approx(1.2) and found.loss_rise.error == pytest.approx(0.2)
    assert found.disruption.value == pytest.approx(0.2) and found.disruption.error == pytest.approx(0.1)
    low, high = found.drop.interval()
    assert high == pytest.approx(0.3 + 12.706 * 0.1, rel=1e-3) and low + high == pytest.approx(0.6)


def test_a_single_block_and_a_loss_without_end_have_no_error():
    one, two = sums([4], [20]), sums([4, 4], [math.inf, 20])
    assert paired(one, one) is None
    assert paired(two, sums([5, 5], [10, 10])) is None


def scores(drop: float, error: float, *, rise: float = 0.0, moved: float = 0.001, blocks: int = 24) -> Scores:
    """A step that costs this much, with an error of this size in every respect."""

    def estimate(value: float) -> Estimate:
        return Estimate(value=value, error=error, blocks=blocks)

    metrics = NextTokenMetrics(100, 0.5 * (1 - drop), 1.0, 1.0 + rise)
    change = Paired(tokens=100, drop=estimate(drop), loss_rise=estimate(rise), disruption=estimate(moved))
    return Scores(forget=metrics, retain=metrics, disruption=moved, retain_paired=change)


BASE = Scores(forget=NextTokenMetrics(100, 0.5, 1.0, 1.0), retain=NextTokenMetrics(100, 0.5, 1.0, 1.0))


@pytest.mark.parametrize(
    ("drop", "error", "confidence", "inside", "close"),
    [
        (0.04, 0.02, None, True, True),
        (0.04, 0.001, None, True, False),
        (0.06, 0.02, None, False, True),
        (0.06, 0.001, None, False, False),
        (0.04, 0.02, 0.95, False, True),
        (0.04, 0.003, 0.95, True, False),
        (0.01, 0.02, 0.95, False, True),
        (0.01, 0.01, 0.95, True, False),
    ],
)
def test_a_budget_is_kept_on_average_or_with_confidence(drop, error, confidence, inside, close):
    config = UnlearnConfig(retain_budget=0.05, perplexity_budget=math.inf, budget_confidence=confidence)
    found = scores(drop, error)
    assert (is_inside(found, BASE, config), is_close(found, BASE, config)) == (inside, close)


def test_every_budget_has_its_confidence():
    sure = UnlearnConfig(retain_budget=1, perplexity_budget=math.exp(0.2), disruption_budget=0.1, budget_confidence=0.9)
    assert is_inside(scores(0.9, 0.01, rise=0.15, moved=0.05), BASE, sure)
    assert not is_inside(scores(0.9, 0.01, rise=0.19, moved=0.05), BASE, sure)
    assert not is_inside(scores(0.9, 0.01, rise=0.15, moved=0.09), BASE, sure)
    mean = sure.with_settings(budget_confidence=None)
    assert is_inside(scores(0.9, 0.01, rise=0.19, moved=0.09), BASE, mean)


def test_what_is_broken_for_certain_is_not_looked_at_again():
    config = UnlearnConfig(retain_budget=0.05, disruption_budget=0.1, perplexity_budget=math.inf)
    assert is_close(scores(0.05, 0.01, moved=0.05), BASE, config)
    assert not is_close(scores(0.05, 0.01, moved=0.5), BASE, config)


def test_more_looks_take_less_risk_each():
    config = UnlearnConfig(retain_budget=0.05, perplexity_budget=math.inf, budget_confidence=0.95)
    found = scores(0.03, 0.01)  # 2 standard errors from the budget: enough for 95%, and not for 98.3%
    assert is_inside(found, BASE, config.with_settings(evaluation_doublings=0))
    assert not is_inside(found, BASE, config.with_settings(evaluation_doublings=2))


class Population:
    """Blocks of a made-up corpus, on which a made-up model loses more the stronger it is changed, unevenly."""

    def __init__(self, blocks: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.before = 60 + 60 * torch.rand(blocks, generator=generator).double()
        self.uneven = 1 + 1.5 * torch.randn(blocks, generator=generator).double()
        self.noise = torch.randn(blocks, generator=generator).double()

    def after(self, strength: float) -> Tensor:
        return self.before * (1 - 0.1 * strength * self.uneven) + self.noise * min(1.0, 5 * strength)

    def drop(self, strength: float) -> float:
        return 1 - float(self.after(strength).sum() / self.before.sum())


@pytest.fixture
def simulated(monkeypatch, blocks_of, tiny_model) -> Callable[..., tuple[float, float]]:
    """Bisect for the largest strength inside the budget on blocks drawn at random, judged by `Judge`; what it truly costs."""
    population, model = Population(2000, seed=1), tiny_model("llama")
    strength = 0.0

    def of(blocks: Any) -> BlockSums:
        rows = blocks.input_ids[:, 0]
        hits, ones = population.after(strength)[rows], torch.ones(len(rows)).double()
        return BlockSums(torch.stack([hits, 200 * ones, 200 * ones, 256 * ones], 1))

    @contextmanager
    def changed(to: float) -> Iterator[None]:
        nonlocal strength
        strength = to
        yield
        strength = 0.0

    monkeypatch.setattr(judging, "measure", lambda _, pair, **__: Sums(of(pair.forget), (of(pair.retain),)))
    monkeypatch.setattr(judging, "measure_retain", lambda _, parts, **__: tuple(map(of, parts)))

    def draw(seed: int, config: UnlearnConfig, first: int = 24) -> tuple[float, float]:
        drawn = torch.randint(2000, (4 * first, 1), generator=torch.Generator().manual_seed(seed)).expand(-1, 2)
        blocks = blocks_of(drawn[:first])
        decide = Judge(model, Pair(blocks, blocks, (blocks_of(drawn[first:]),)), config, origin=None, progress=False)
        low, high = 0.0, 1.0
        for _ in range(8):
            middle = (low + high) / 2
            found = decide(lambda at=middle: changed(at))
            inside = is_inside(found, decide.origin.scores, config)
            low, high = (middle, high) if inside else (low, middle)
        return population.drop(low), low

    return draw


def test_a_budget_in_expectation_is_spent_and_one_with_confidence_holds_as_often_as_it_says(simulated):
    mean = UnlearnConfig(retain_budget=0.05, perplexity_budget=math.inf)
    sure = mean.with_settings(budget_confidence=0.9)
    trials = range(60)
    of_mean, of_sure = ([simulated(seed, config)[0] for seed in trials] for config in (mean, sure))
    assert sum(of_mean) / len(of_mean) == pytest.approx(0.05, rel=0.1)
    broken = [sum(drop > 0.05 for drop in drops) / len(drops) for drops in (of_mean, of_sure)]
    assert broken[0] > 0.3, "half of the draws are above a mean"
    assert broken[1] <= 0.1
    assert min(of_sure) > 0.01, "a budget with confidence is not left unused"


def test_more_blocks_bring_the_cost_nearer_to_the_budget(simulated):
    few = UnlearnConfig(retain_budget=0.05, perplexity_budget=math.inf, evaluation_doublings=0)
    many = few.with_settings(evaluation_doublings=2)
    off = [sum(abs(simulated(seed, config)[0] - 0.05) for seed in range(30)) for config in (few, many)]
    assert off[1] < 0.75 * off[0]


def test_any_first_few_of_spread_rows_are_spread_over_all():
    assert spread_order(7) == [0, 4, 2, 6, 1, 5, 3] and spread_order(1) == [0]
    for count in (5, 24, 75, 100):
        order = spread_order(count)
        assert sorted(order) == list(range(count))
        quarter = sorted(order[: count // 4])
        apart = [after - before for before, after in zip(quarter, [*quarter[1:], count], strict=True)]
        assert max(apart) <= 8, "every fourth row comes first, or nearly"


def documents_in(blocks: Any, tokenizer: Any, texts: list[str]) -> int:
    """How many of some texts the blocks have a piece of."""
    written = [tokenizer.decode(ids) for ids in blocks.input_ids]
    return sum(any(text[:20] in block or text[-20:] in block for block in written) for text in texts)


def test_held_out_blocks_are_spread_over_documents_and_the_others_are_kept_back(tokenizer):
    long = [" ".join(WORDS[row : row + 4]) for row in range(0, 400, 4)]
    config = UnlearnConfig(**SMALL).with_settings(evaluation_tokens=16 * BLOCK)
    pairs = read_pairs("next token", open_pair("next token", NUMBERS, long, config), tokenizer, config)
    validation = pairs["validation"]
    (further,) = validation.further
    first, how = cast(Any, validation.retain), {"part": "validation", "block_size": BLOCK}
    every = as_many_blocks(long, tokenizer, tokens=64 * BLOCK, **how)
    rows = {tuple(ids.tolist()) for ids in (*first.input_ids, *cast(Any, further).input_ids)}
    assert rows == {tuple(ids.tolist()) for ids in every.input_ids} and (len(first), len(rows)) == (16, 64)
    apart = token_blocks(long, tokenizer, tokens=16 * BLOCK, **how)
    assert documents_in(first, tokenizer, long) > 1.5 * documents_in(apart, tokenizer, long)
    assert pairs["train"].further == pairs["test"].further == ()


def test_of_several_corpora_each_has_further_blocks(tokenizer):
    config = UnlearnConfig(**SMALL).with_settings(evaluation_tokens=8 * BLOCK)
    corpora = open_pair("next token", NUMBERS, [WORDS, NUMBERS[::-1]], config)
    validation = read_pairs("next token", corpora, tokenizer, config)["validation"]
    assert [len(one) for one in parts_of(validation.retain).values()] == [4, 4]
    assert [len(cast(Any, one)) for one in validation.further] == [12, 12]


def test_rows_of_their_own_stay_in_order(tokenizer):
    rows = [{"prompt": f"What is {n}?", "completion": f"It is number {n}."} for n in range(100)]
    config = UnlearnConfig(**SMALL).with_settings(evaluation_tokens=4 * BLOCK)
    pair = read_pairs("next token", open_pair("next token", NUMBERS, rows, config), tokenizer, config)["validation"]
    first, (further,) = cast(Any, pair.retain), pair.further
    every = as_many_blocks(rows, tokenizer, tokens=16 * BLOCK, part="validation", block_size=BLOCK)
    assert torch.equal(
        first.input_ids, token_blocks(rows, tokenizer, tokens=4 * BLOCK, part="validation", block_size=BLOCK).input_ids
    )
    assert len(first) + len(cast(Any, further)) == len(every)


def test_a_part_that_has_no_more_gives_what_it_has_without_a_warning(tokenizer, caplog):
    config = UnlearnConfig(**SMALL).with_settings(evaluation_tokens=512)
    (further,) = read_pairs("next token", open_pair("next token", NUMBERS, WORDS[:60], config), tokenizer, config)[
        "validation"
    ].further
    assert further is not None and 0 < len(further.counted) < 48
    assert "validation part" not in caplog.text


def test_the_parts_of_the_embedded_prose_have_as_much_of_every_register():
    parts = {part: list(corpus("general", prefer="embedded").documents(part)) for part in PARTS}
    assert [len(parts[part]) for part in PARTS] == [74, 25, 24]
    assert len({text for texts in parts.values() for text in texts}) == 123
    registers = {
        file.read_text(): file.name.partition("-")[0] for file in files("hf_untangle.data").joinpath("general").iterdir()
    }
    counts = {part: Counter(registers[text] for text in texts) for part, texts in parts.items()}
    for register, count in Counter(registers.values()).items():
        for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
            assert abs(counts[part][register] - share * count) < 1.2, (part, register)


@pytest.fixture
def validation(tokenizer) -> Pair:
    """Eight blocks of numbers to forget and of words to retain, and twenty-four further ones of words."""

    def read(texts: list[str], blocks: int) -> Any:
        return token_blocks(texts, tokenizer, tokens=blocks * BLOCK, part="validation", block_size=BLOCK)

    return Pair(read(NUMBERS, 8), read(WORDS, 8), (read(WORDS, 32).rows(slice(8, None)),))


def test_more_is_read_where_a_budget_is_close_and_nowhere_else(toy_model, validation, finished):
    config = UnlearnConfig(**SMALL, perplexity_budget=math.inf, retain_budget=0.999)
    one = sum(len(blocks.counted) for blocks in (validation.forget, validation.retain)) * BLOCK

    def tokens(budget: float) -> tuple[int, Scores]:
        judge = Judge(toy_model, validation, config.with_settings(retain_budget=budget), origin=None, progress=False)
        with forward_tokens(toy_model) as spent:
            found = judge(lambda: masked(toy_model, finished.mask))
        return spent.count, found

    far, seen = tokens(0.999)
    assert far == one and seen.retain_paired is not None
    close, more = tokens(seen.retain_paired.drop.value)
    assert close == one + 2 * 24 * BLOCK, "the original and the masked model on all blocks that there are"
    assert more.retain_paired is not None and more.retain_paired.drop.blocks == 32
    assert more.retain == seen.retain, "metrics are of the blocks that every step is measured on"
    whole = replace(validation, retain=token_rows(validation), further=())
    origin = origin_on(toy_model, whole, **QUIET)
    with masked(toy_model, finished.mask):
        assert judge(toy_model, whole, **QUIET, origin=origin).retain_paired == more.retain_paired


def token_rows(validation: Pair) -> Any:
    """All retain blocks, further ones included."""
    further = cast(Any, validation.further[0])
    ids = torch.cat([cast(Any, validation.retain).input_ids, further.input_ids])
    every = torch.ones_like(ids, dtype=torch.bool)
    return replace(further, input_ids=ids, attention_mask=every, counted=every)


def test_no_more_is_read_where_another_method_has_changed_the_model(toy_model, validation):
    config = UnlearnConfig(**SMALL, retain_budget=0.0)
    judge = Judge(toy_model, validation, config, origin=origin_on(toy_model, validation, **QUIET), progress=False)
    with forward_tokens(toy_model) as spent:
        judge(nullcontext)
    assert spent.count == 16 * BLOCK


def test_disruption_of_several_corpora_is_that_of_the_worst_and_is_measured_in_one_pass(toy_model, tokenizer, finished):
    several = token_blocks([WORDS, NUMBERS], tokenizer, tokens=512, part="validation", block_size=BLOCK)
    pair = Pair(token_blocks(NUMBERS, tokenizer, tokens=256, part="validation", block_size=BLOCK), several)
    origin = origin_on(toy_model, pair, **QUIET, disruption=True)
    with masked(toy_model, finished.mask), forward_tokens(toy_model) as spent:
        found = judge(toy_model, pair, **QUIET, origin=origin)
    assert spent.count == (len(pair.forget) + len(several)) * BLOCK
    alone = {}
    for name, blocks in several.by_member().items():
        reference = reference_predictions(toy_model, blocks, batch_size=16)
        with masked(toy_model, finished.mask):
            metrics, alone[name] = metrics_and_divergence(toy_model, blocks, reference, batch_size=16)
        assert dict(found.members)[name] == metrics
        change = dict(found.members_paired)[name]
        assert change.disruption is not None and change.disruption.value == pytest.approx(alone[name])
        assert change.drop.value == pytest.approx(1 - metrics.top1 / dict(origin.scores.members)[name].top1)
    assert found.disruption == pytest.approx(max(alone.values())) and max(alone.values()) > 2 * min(alone.values())
    with masked(toy_model, finished.mask):
        whole = next_token_metrics(toy_model, several, **QUIET)
    assert (found.retain.tokens, found.retain.top1) == (whole.tokens, pytest.approx(whole.top1))
    assert found.retain.loss == pytest.approx(whole.loss)


def test_the_worst_of_several_corpora_breaks_a_budget_of_disruption():
    def member(moved: float) -> Paired:
        return cast(Paired, scores(0.0, 0.0, moved=moved).retain_paired)

    metrics = BASE.retain
    pair = {"members": (("a", metrics), ("b", metrics))}
    found = BASE.model_copy(update={**pair, "disruption": 0.05, "members_paired": (("a", member(0.01)), ("b", member(0.05)))})
    base = BASE.model_copy(update=pair)
    assert is_inside(found, base, UnlearnConfig(disruption_budget=0.05))
    assert not is_inside(found, base, UnlearnConfig(disruption_budget=0.04))


def test_pruning_chooses_by_disruption_where_it_has_a_budget_of_it(search):
    free = {"retain_budget": 1.0, "perplexity_budget": math.inf, "controls": 0}
    loose = search(**free, disruption_budget=100.0)
    moved = [cast(float, step.scores.disruption) for step in loose.history.steps]
    assert all(one > 0 for one in moved) and max(moved) > 1.5 * moved[0]
    budget = (moved[0] + max(moved)) / 2
    found = search(**free, disruption_budget=budget)
    assert cast(float, found.history.step.scores.disruption) <= budget
    assert found.history.step.removed != loose.history.step.removed
    (last,) = [step.scores.retain_paired for step in found.history.steps[-1:]]
    assert last is not None and last.disruption is not None


def test_a_budget_with_confidence_needs_two_blocks(toy_model, validation):
    config = UnlearnConfig(**SMALL, budget_confidence=0.9)
    single = Pair(validation.forget, cast(Any, validation.retain).first(1))
    with pytest.raises(ConfigError, match="needs at least two held-out blocks of every retain corpus, got 1"):
        Judge(toy_model, single, config, origin=None, progress=False)
    Judge(toy_model, single, config.with_settings(budget_confidence=None), origin=None, progress=False)


def test_a_single_pass_over_blocks_gives_the_metrics_of_the_whole(toy_model, padded_blocks):
    found = measuring.measure_retain(toy_model, [padded_blocks, None], **QUIET)
    whole = next_token_metrics(toy_model, padded_blocks, **QUIET)
    assert found[0].tokens.tolist() == [11, 8, 4, 1, 6, 11]
    assert float(found[0].loss.sum()) / 41 == pytest.approx(whole.loss)
    assert len(found[1].tokens) == 0


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_the_pass_that_keeps_predictions_measures_what_a_pass_of_its_own_does(toy_model, tokenizer, batch_size):
    blocks = token_blocks(corpus(WORDS), tokenizer, tokens=7 * BLOCK, block_size=BLOCK)
    sums, kept = reference_sums(toy_model, blocks, batch_size=batch_size)
    torch.testing.assert_close(sums.sums, prediction_sums(toy_model, blocks, batch_size=batch_size, progress=False).sums)
    assert len(kept.indices) == sums.tokens.sum()
    # Of a vocabulary that is kept whole, the loss follows from the predictions too.
    of_text = kept.log_probabilities.gather(-1, (kept.indices == blocks.queries()[1][:, None]).int().argmax(-1, keepdim=True))
    assert -of_text.sum().item() == pytest.approx(sums.loss.sum().item(), rel=1e-5)
