"""Objectives of unlearning methods: each against its formula written out for every token by hand."""

import math

import pytest
import torch
from torch import Tensor

from hf_untangle.data.documents import IGNORED
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.kl_to_original import TopLogits, metrics_and_divergence, reference_predictions
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.methods.forget_objectives import FORGET_OBJECTIVE, Seen, Strengths
from hf_untangle.methods.predictions import Predictions, unit_direction
from hf_untangle.methods.references import predictions_of, reference_logits, reference_losses
from hf_untangle.methods.retain_objectives import RETAIN_OBJECTIVE, Kept

ROWS, TOKENS, VOCABULARY = 3, 7, 11
COUNTED = [[2, 3, 4], [1, 2, 3, 4, 5, 6], [5]]
"""Positions of each row that are an answer, one row with a single token."""


def drawn(seed: int) -> Tensor:
    return 2 * torch.randn(ROWS, TOKENS, VOCABULARY, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def labels():
    ids = torch.randint(VOCABULARY, (ROWS, TOKENS), generator=torch.Generator().manual_seed(3))
    found = torch.full_like(ids, IGNORED)
    for row, positions in enumerate(COUNTED):
        found[row, positions] = ids[row, positions]
    return found


@pytest.fixture
def logits():
    return drawn(1)


@pytest.fixture
def original():
    return drawn(2)


def log_p(logits: Tensor, labels: Tensor) -> list[list[float]]:
    """log p of every counted token, by a loop: the token at position t is predicted at t - 1."""
    return [
        [float(logits[row, t - 1, labels[row, t]] - logits[row, t - 1].exp().sum().log()) for t in positions]
        for row, positions in enumerate(COUNTED)
    ]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def mean(numbers) -> float:
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def value(name: str, seen: Seen, **strengths) -> float:
    return float(FORGET_OBJECTIVE[name](seen, Strengths(**strengths)))


def test_ascent_is_the_mean_log_probability_of_all_counted_tokens(logits, labels):
    expected = mean(one for row in log_p(logits, labels) for one in row)
    assert value("ascent", Seen(Predictions.of(logits, labels))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("per_token", [True, False])
def test_npo_is_its_formula_with_sums_or_means_over_a_row(logits, original, labels, per_token):
    total = (lambda row: mean(row)) if per_token else sum
    ratios = [total(new) - total(old) for new, old in zip(log_p(logits, labels), log_p(original, labels), strict=True)]
    expected = -2 / 0.3 * mean(log_sigmoid(-0.3 * ratio) for ratio in ratios)
    reference = Predictions.of(original, labels).row_losses(per_token=per_token)
    seen = Seen(Predictions.of(logits, labels), reference)
    assert value("npo", seen, beta=0.3, per_token=per_token) == pytest.approx(expected, abs=1e-5)


def test_npo_of_an_unchanged_model_is_two_log_two_over_beta(logits, labels):
    same = Predictions.of(logits, labels)
    assert value("npo", Seen(same, same.row_losses(per_token=True)), beta=0.5) == pytest.approx(4 * math.log(2))


def test_simnpo_divides_by_the_length_of_the_answer(logits, labels):
    expected = -2 / 2.5 * mean(log_sigmoid(2.5 * (-mean(row) - 0.4)) for row in log_p(logits, labels))
    assert value("simnpo", Seen(Predictions.of(logits, labels)), beta=2.5, delta=0.4) == pytest.approx(expected, abs=1e-5)


def test_dpo_prefers_the_alternative(logits, original, labels):
    others = drawn(4), drawn(5)
    win = [sum(a) - sum(b) for a, b in zip(log_p(others[0], labels), log_p(others[1], labels), strict=True)]
    lose = [sum(a) - sum(b) for a, b in zip(log_p(logits, labels), log_p(original, labels), strict=True)]
    expected = -2 / 0.1 * mean(log_sigmoid(0.1 * (w - v)) for w, v in zip(win, lose, strict=True))
    seen = Seen(
        Predictions.of(logits, labels),
        Predictions.of(original, labels).row_losses(per_token=False),
        alternative=Predictions.of(others[0], labels),
        alternative_reference=Predictions.of(others[1], labels).row_losses(per_token=False),
    )
    assert value("dpo", seen, beta=0.1, per_token=False) == pytest.approx(expected, abs=1e-4)


def test_undial_lowers_one_logit_of_the_teacher(logits, original, labels):
    expected = []
    for row, positions in enumerate(COUNTED):
        for t in positions:
            teacher = original[row, t - 1].clone()
            teacher[labels[row, t]] -= 10
            expected.append(-float((teacher.softmax(-1) * logits[row, t - 1].log_softmax(-1)).sum()))
    top = TopLogits.of(*Predictions.of(original, labels).chosen())
    assert value("undial", Seen(Predictions.of(logits, labels), top=top), beta=10) == pytest.approx(mean(expected), abs=1e-5)


def test_weighted_ascent_weighs_by_probability_and_lets_no_gradient_through_the_weight(logits, labels):
    rows = [one for row in log_p(logits, labels) for one in row]
    seen = Seen(Predictions.of(logits, labels))
    assert value("wga", seen, beta=2) == pytest.approx(mean(math.exp(2 * one) * one for one in rows), abs=1e-5)
    expected = mean(math.exp(5 * one) * (1 - math.exp(one)) ** 2 * one for one in rows)
    assert value("satimp", seen, beta=5, beta2=2) == pytest.approx(expected, abs=1e-5)
    leaf = logits.clone().requires_grad_(True)
    FORGET_OBJECTIVE["wga"](Seen(Predictions.of(leaf, labels)), Strengths(beta=1)).backward()
    t = COUNTED[2][0]
    p = logits[2, t - 1].softmax(-1)
    by_hand = p[labels[2, t]] * (torch.eye(VOCABULARY)[labels[2, t]] - p) / sum(map(len, COUNTED))
    torch.testing.assert_close(leaf.grad[2, t - 1], by_hand)


def test_flat_logits_and_uniform_are_zero_for_a_model_that_knows_nothing(logits, labels):
    flat = Seen(Predictions.of(torch.full_like(logits, 0.7), labels))
    assert value("flat logits", flat) == pytest.approx(0, abs=1e-10)
    assert value("uniform", flat) == pytest.approx(0, abs=1e-6)
    chosen = [logits[row, t - 1] for row, positions in enumerate(COUNTED) for t in positions]
    seen = Seen(Predictions.of(logits, labels))
    assert value("flat logits", seen) == pytest.approx(mean(float(z.max() - z.mean()) ** 2 for z in chosen), rel=1e-5)
    uniform = [mean(-math.log(VOCABULARY) - float(v) for v in z.log_softmax(-1)) for z in chosen]
    assert value("uniform", seen) == pytest.approx(mean(uniform), rel=1e-5)


def test_rmu_steers_hidden_states_of_counted_tokens_to_a_fixed_vector():
    generator = torch.Generator().manual_seed(0)
    hidden, counted = torch.randn(2, 3, 4, generator=generator), torch.tensor([[True, True, False], [False, False, True]])
    direction = unit_direction(4, seed=5)
    assert direction.norm() == pytest.approx(1) and (direction >= 0).all()
    squares = ((hidden - 6.5 * direction) ** 2).mean(-1)
    expected = mean([mean([float(squares[0, 0]), float(squares[0, 1])]), float(squares[1, 2])])
    seen = Seen(hidden=hidden, counted=counted, direction=direction)
    assert value("rmu", seen, steering=6.5) == pytest.approx(expected, rel=1e-6)


def test_what_is_not_counted_changes_nothing(logits, original, labels):
    other = logits.clone()
    uncounted = ~Predictions.of(logits, labels).counted
    other[:, :-1][uncounted] += 5 * torch.randn(int(uncounted.sum()), VOCABULARY)
    other[:, -1] = 1
    reference = Predictions.of(original, labels).row_losses(per_token=True)
    top = TopLogits.of(*Predictions.of(original, labels).chosen())
    for name in set(FORGET_OBJECTIVE) - {"rmu", "dpo"}:
        one, two = (value(name, Seen(Predictions.of(each, labels), reference, top)) for each in (logits, other))
        assert one == two, name


def test_an_objective_without_what_it_needs_says_so(logits, labels):
    with pytest.raises(ConfigError, match="The forget objective needs reference losses, got none"):
        value("npo", Seen(Predictions.of(logits, labels)))
    with pytest.raises(ConfigError, match="needs alternative answers, got none"):
        value("dpo", Seen(Predictions.of(logits, labels), torch.zeros(ROWS)))


def test_retain_objectives_are_their_formulas(logits, original, labels):
    predictions = Predictions.of(logits, labels)
    nll = RETAIN_OBJECTIVE["nll"](Kept(predictions))
    assert float(nll) == pytest.approx(-mean(one for row in log_p(logits, labels) for one in row), abs=1e-5)
    top = TopLogits.of(*Predictions.of(original, labels).chosen())
    expected = [
        float((original[r, t - 1].softmax(-1) * (original[r, t - 1].log_softmax(-1) - logits[r, t - 1].log_softmax(-1))).sum())
        for r, positions in enumerate(COUNTED)
        for t in positions
    ]
    assert float(RETAIN_OBJECTIVE["kl"](Kept(predictions, top))) == pytest.approx(mean(expected), abs=1e-5)
    assert float(RETAIN_OBJECTIVE["none"](Kept())) == 0
    states = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    everything = torch.ones(2, 3, dtype=torch.bool)
    found = RETAIN_OBJECTIVE["hidden"](Kept(hidden=states[0], original_hidden=states[1], counted=everything))
    torch.testing.assert_close(found, ((states[0] - states[1]) ** 2).mean())


@pytest.mark.parametrize("top", [1, 3, VOCABULARY])
def test_a_few_logits_give_a_lower_bound_on_the_divergence_and_all_of_them_give_it(logits, original, top):
    tokens = torch.arange(VOCABULARY).repeat(2)[: ROWS * TOKENS]
    flat, before = logits.flatten(0, 1), original.flatten(0, 1)
    exact = (before.softmax(-1) * (before.log_softmax(-1) - flat.log_softmax(-1))).sum(-1)
    kept = TopLogits.of(before, tokens, top)
    assert (kept.indices == tokens[:, None]).any(-1).all(), "the token itself is always kept"
    found = kept.divergence(flat)
    assert (found <= exact + 1e-5).all() and (found >= -1e-5).all()
    assert kept.divergence(before).abs().max() < 1e-5
    if top == VOCABULARY:
        torch.testing.assert_close(found, exact, atol=1e-5, rtol=1e-5)


def test_references_are_one_number_a_row_and_those_of_the_model_in_any_batch(tiny_model, padded_blocks):
    model = tiny_model("llama")
    together = predictions_of(model, padded_blocks).row_losses(per_token=True)
    found = reference_losses(model, padded_blocks, per_token=True, batch_size=2)
    torch.testing.assert_close(found, together, atol=1e-5, rtol=1e-5)
    rows = reference_logits(model, padded_blocks, batch_size=4)
    assert [len(one.indices) for one in rows] == [11, 8, 4, 1, 6, 11], "a row has a prediction less than tokens"
    assert TopLogits.joined(rows).divergence(predictions_of(model, padded_blocks).chosen()[0]).abs().max() < 1e-4


def test_the_divergence_of_a_model_from_itself_is_zero_and_that_of_another_is_the_mean_over_tokens(
    tiny_model, padded_blocks, untouched
):
    model = tiny_model("llama")
    before = reference_predictions(model, padded_blocks, batch_size=4, top=258)
    with untouched(model):
        metrics, divergence = metrics_and_divergence(model, padded_blocks, before, batch_size=3)
    assert metrics == next_token_metrics(model, padded_blocks, batch_size=3, progress=False)
    assert divergence == pytest.approx(0, abs=1e-5)
    old = predictions_of(model, padded_blocks).chosen()[0].detach().log_softmax(-1)
    with torch.no_grad():
        model.lm_head.weight += 0.1 * torch.randn_like(model.lm_head.weight)
    new = predictions_of(model, padded_blocks).chosen()[0].detach().log_softmax(-1)
    found = metrics_and_divergence(model, padded_blocks, before, batch_size=3)[1]
    assert found == pytest.approx(float((old.exp() * (old - new)).sum(-1).mean()), rel=1e-3)
