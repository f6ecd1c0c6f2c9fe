"""Metrics as modules of `evaluate`: worked examples by hand, then the formulas on random numbers."""

import json
import math
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from hf_untangle.errors import ConfigError
from hf_untangle.metrics.module import metric
from hf_untangle.metrics.registry import METRICS

EXAMPLES = {
    "answer_probability": {"predictions": [[-1.0, -2.0], [0.0]]},
    "exact_memorization": {"predictions": [[1, 2], [3]], "references": [[1, 9], [3]]},
    "extraction_strength": {"predictions": [[1, 2], [3]], "references": [[9, 2], [3]]},
    "membership_auc": {
        "predictions": [[-1.0], [-2.0]],
        "means": [[-1.5], [-1.5]],
        "deviations": [[1.0], [1.0]],
        "references": [1, 0],
    },
    "multiple_choice": {"predictions": [[0.1, 0.9], [0.7, 0.2]], "references": [1, 1]},
    "perplexity": {"predictions": [[-1.0, -2.0], [-3.0]]},
    "python_parses": {"predictions": ["x = 1", "once upon a time"]},
    "repetition": {"predictions": ["a b c d e", "a a a a a a"]},
    "rouge": {"predictions": ["the cat sat"], "references": ["the cat sat down"]},
    "top_k_accuracy": {"predictions": [list(range(10)), list(range(10))], "references": [0, 7]},
    "truth_ratio": {"right": [[-1.0], [-2.0]], "wrong": [[[-3.0]], [[-2.0], [-4.0]]]},
}
"""Two rows, or one, of what every metric takes."""
RIGHT = {"predictions": [[1, 2, 3, 4]], "references": [[1, 2, 3, 4]]}


def result(name: str, **columns):
    return metric(name, keep_in_memory=True).compute(**columns)


SHARED = """
import json, os, sys
from pathlib import Path
from hf_untangle.metrics import metric
rank, columns = int(os.environ["RANK"]), json.loads(Path("columns.json").read_text())
module = metric(sys.argv[1], process_id=rank, num_process=2, experiment_id="two", cache_dir=".", timeout=300)
module.add_batch(**{key: rows[rank::2] for key, rows in columns.items()})
Path(f"found-{rank}.json").write_text(json.dumps(module.compute()))
"""


def in_two_processes(forked: Callable[..., Any], name: str, folder: Path) -> dict[str, float]:
    """What a process computes of its own rows and of those that a second process has added."""
    (folder / "columns.json").write_text(json.dumps(EXAMPLES[name]))
    (folder / "shared.py").write_text(SHARED)
    done = forked(folder, "shared.py", name, ranks=2)
    assert done.returncode == 0, done.stderr
    found, second = (json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2))
    assert second is None
    return found


def test_every_metric_has_an_example_here_and_they_are_all():
    assert set(METRICS) == EXAMPLES.keys()
    assert len(METRICS) == 11


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_metric_is_a_module_of_evaluate_that_says_what_it_takes(name):
    module = metric(name)
    assert isinstance(module, evaluate.Metric)
    assert set(module.features) == EXAMPLES[name].keys()
    assert module.description and all(f"{feature}:" in module.inputs_description for feature in module.features)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_batches_give_what_all_rows_at_once_give(name):
    columns = EXAMPLES[name]
    module = metric(name)
    for row in range(len(next(iter(columns.values())))):
        module.add_batch(**{key: rows[row : row + 1] for key, rows in columns.items()})
    assert module.compute() == result(name, **columns)


def test_two_processes_give_what_one_gives(forked, tmp_path):
    assert in_two_processes(forked, "membership_auc", tmp_path) == result("membership_auc", **EXAMPLES["membership_auc"])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(METRICS) - {"membership_auc", "rouge"}))
def test_two_processes_give_what_one_gives_for_every_metric(forked, name, tmp_path):
    assert in_two_processes(forked, name, tmp_path) == result(name, **EXAMPLES[name])


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="A metric must be one of answer_probability, .*, got `bleu`"):
        metric("bleu")


def test_top_k_accuracy_counts_tokens_among_the_first_k():
    found = result("top_k_accuracy", predictions=[[5, 3], [1, 2], [7, 8]], references=[5, 2, 9], k=[1, 2])
    assert found == {"tokens": 3, "top1": pytest.approx(1 / 3), "top2": pytest.approx(2 / 3)}


def test_top_k_accuracy_leaves_out_what_transformers_leaves_out():
    assert result("top_k_accuracy", predictions=[[5], [1]], references=[5, -100], k=[1]) == {"tokens": 1, "top1": 1.0}
    with pytest.raises(ValueError, match="every reference is -100"):
        result("top_k_accuracy", predictions=[[5]], references=[-100], k=[1])


def test_top_k_accuracy_wants_k_ids():
    with pytest.raises(ValueError, match="Top-10 needs 10 ids for every token, but one has 2"):
        result("top_k_accuracy", predictions=[[5, 3]], references=[5])


def test_top_k_accuracy_is_the_formula_on_random_logits():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 30, generator=generator), torch.randint(30, (200,), generator=generator)
    found = result("top_k_accuracy", predictions=logits.topk(10).indices.tolist(), references=labels.tolist())
    higher = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert found["top1"] == pytest.approx(float((higher < 1).float().mean()))
    assert found["top10"] == pytest.approx(float((higher < 10).float().mean()))


def test_perplexity_of_even_odds_is_their_number():
    found = result("perplexity", predictions=[[math.log(1 / 8)] * 3, [math.log(1 / 8)]])
    assert found == {"tokens": 4, "loss": pytest.approx(math.log(8)), "perplexity": pytest.approx(8)}


def test_perplexity_counts_tokens_and_not_texts():
    assert result("perplexity", predictions=[[0.0, 0.0, 0.0], [-4.0], []])["loss"] == 1.0


def test_perplexity_overflows_to_infinity_and_needs_a_token():
    assert result("perplexity", predictions=[[-800.0]])["perplexity"] == math.inf
    with pytest.raises(ValueError, match="at least one log-probability"):
        result("perplexity", predictions=[[], []])


def test_perplexity_is_the_exponential_of_cross_entropy():
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(4, 25, 30, generator=generator), torch.randint(30, (4, 25), generator=generator)
    logs = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten()).exp()
    assert result("perplexity", predictions=logs.tolist())["perplexity"] == pytest.approx(float(expected), rel=1e-5)


def test_what_is_known_by_heart_scores_one_in_both_measures_of_memory():
    assert result("exact_memorization", **RIGHT) == {"exact_memorization": 1.0}
    assert result("extraction_strength", **RIGHT) == {"extraction_strength": 1.0}


def test_exact_memorization_is_a_mean_over_answers_of_shares():
    found = result("exact_memorization", predictions=[[1, 2, 3, 4], [5]], references=[[1, 9, 3, 9], [5]])
    assert found == {"exact_memorization": 0.75}


@pytest.mark.parametrize(
    ("predicted", "strength"),
    [([1, 2, 3, 4], 1.0), ([9, 2, 3, 4], 0.75), ([1, 2, 9, 4], 0.25), ([1, 2, 3, 9], 0.0), ([9, 9, 9, 9], 0.0)],
)
def test_extraction_strength_is_the_share_after_the_last_mistake(predicted, strength):
    assert result("extraction_strength", predictions=[predicted], references=[[1, 2, 3, 4]]) == {
        "extraction_strength": strength
    }


def test_extraction_strength_is_one_minus_the_shortest_sufficient_prefix():
    def by_definition(predicted, answer):
        sufficient = [k for k in range(len(answer) + 1) if predicted[k:] == answer[k:]]
        return 1 - min(sufficient) / len(answer)

    pairs = list(product(product((0, 1), repeat=3), repeat=2))
    found = result(
        "extraction_strength", predictions=[list(one) for one, _ in pairs], references=[list(one) for _, one in pairs]
    )
    assert found["extraction_strength"] == pytest.approx(sum(by_definition(*pair) for pair in pairs) / len(pairs))


@pytest.mark.parametrize("name", ["exact_memorization", "extraction_strength"])
@pytest.mark.parametrize(("predicted", "answer"), [([], []), ([1], [1, 2])])
def test_an_answer_needs_a_prediction_for_each_of_its_tokens(name, predicted, answer):
    with pytest.raises(ValueError, match=f"got {len(predicted)} predictions for {len(answer)} tokens"):
        result(name, predictions=[predicted], references=[answer])


def test_the_probability_of_an_answer_is_a_geometric_mean_over_its_tokens():
    found = result("answer_probability", predictions=[[math.log(0.5), math.log(0.125)], [0.0]])
    assert found == {"answer_probability": pytest.approx((0.25 + 1) / 2)}


def test_an_answer_without_tokens_has_no_probability():
    with pytest.raises(ValueError, match="Every answer must have at least one token"):
        result("answer_probability", predictions=[[-1.0], []])


def test_the_probability_of_answers_is_the_formula_on_random_tokens():
    logs = torch.randn(20, 7, generator=torch.Generator().manual_seed(2)).log_softmax(-1)
    expected = logs.mean(1).exp().mean()
    assert result("answer_probability", predictions=logs.tolist())["answer_probability"] == pytest.approx(float(expected))


def test_the_truth_ratio_is_one_where_wrong_and_right_are_as_likely():
    found = result("truth_ratio", right=[[-2.0, -2.0]], wrong=[[[-2.0], [-2.0, -2.0]]])
    assert found == {"truth_ratio": 1.0, "true_by_ratio": 0.0, "ratios": [1.0]}


def test_the_truth_ratio_by_hand():
    found = result(
        "truth_ratio", right=[[math.log(0.8)], [math.log(0.2)]], wrong=[[[math.log(0.4)], [math.log(0.1)]], [[math.log(0.4)]]]
    )
    assert found["ratios"] == pytest.approx([0.25, 2.0])
    assert found["truth_ratio"] == pytest.approx((0.25 + 0.5) / 2)
    assert found["true_by_ratio"] == pytest.approx(0.75 / 2)


def test_the_truth_ratio_is_the_formula_on_random_tokens():
    generator = torch.Generator().manual_seed(3)
    right, wrong = -torch.rand(9, 4, generator=generator), -torch.rand(9, 3, 5, generator=generator)
    ratios = wrong.mean((1, 2)).exp() / right.mean(1).exp()
    found = result("truth_ratio", right=right.tolist(), wrong=wrong.tolist())
    assert found["ratios"] == pytest.approx(ratios.tolist(), rel=1e-5)
    assert found["truth_ratio"] == pytest.approx(float(torch.minimum(ratios, 1 / ratios).mean()), rel=1e-5)
    assert found["true_by_ratio"] == pytest.approx(float((1 - ratios).clamp_min(0).mean()), rel=1e-5)


def test_the_truth_ratio_needs_right_and_wrong_answers():
    with pytest.raises(ValueError, match="needs a right answer and a wrong one"):
        result("truth_ratio", right=[[-1.0]], wrong=[[]])


def membership(members, others, **options):
    texts = [*members, *others]
    flat = {"means": [[0.0] * len(text) for text in texts], "deviations": [[1.0] * len(text) for text in texts]}
    return result("membership_auc", predictions=texts, references=[1] * len(members) + [0] * len(others), **flat | options)


def test_members_that_the_model_knows_better_are_told_apart():
    found = membership([[-1.0, -1.0], [-0.5, -1.5]], [[-3.0, -3.0]])
    assert found == {"loss_auc": 1.0, "min_k_auc": 1.0, "min_k_plus_plus_auc": 1.0}


def test_equal_texts_are_a_guess():
    assert set(membership([[-1.0, -2.0]], [[-1.0, -2.0]]).values()) == {0.5}


def test_min_k_looks_at_the_least_likely_tokens_alone():
    # By the mean the member is likelier, by its two least likely tokens of ten it is not.
    found = membership([[0.0] * 8 + [-3.0, -5.0]], [[-2.0] * 10])
    assert (found["loss_auc"], found["min_k_auc"]) == (1.0, 0.0)
    assert membership([[0.0] * 8 + [-3.0, -5.0]], [[-2.0] * 10], k=1.0)["min_k_auc"] == 1.0


def test_min_k_plus_plus_measures_against_what_the_model_expected():
    # Both tokens are as likely, but only in the second place did the model expect a likelier one.
    found = membership([[-1.0]], [[-1.0]], means=[[-2.0], [-0.5]], deviations=[[0.5], [0.5]])
    assert (found["min_k_auc"], found["min_k_plus_plus_auc"]) == (0.5, 1.0)


def test_a_model_that_is_sure_has_no_deviation_and_breaks_nothing():
    found = membership([[-0.1]], [[-0.2]], means=[[0.0], [0.0]], deviations=[[0.0], [0.0]])
    assert found["min_k_plus_plus_auc"] == 1.0


def test_membership_is_the_share_of_pairs_that_are_in_order():
    generator = np.random.default_rng(4)
    members, others = (generator.integers(-4, 0, size=(size, 10)).astype(float) for size in (15, 11))
    found = membership(members.tolist(), others.tolist())
    for name, attack in (("loss_auc", np.mean), ("min_k_auc", lambda text: np.sort(text)[:2].mean())):
        pairs = [(attack(one), attack(other)) for one in members for other in others]
        assert found[name] == pytest.approx(np.mean([(one > other) + 0.5 * (one == other) for one, other in pairs]))


def test_membership_needs_texts_of_both_kinds_and_a_share():
    with pytest.raises(ValueError, match="needs texts of both kinds"):
        membership([[-1.0]], [])
    with pytest.raises(ValueError, match="k is a share of the tokens, above 0 and at most 1, got 20"):
        membership([[-1.0]], [[-2.0]], k=20)
    with pytest.raises(ValueError, match="at least one token that is predicted"):
        membership([[-1.0]], [[]])


def test_rouge_by_hand():
    pytest.importorskip("rouge_score", reason="rouge_score is not installed (extra `eval`)")
    # The longest common sequence of words is `the cat down`: 3 of 4 words of the completion, 3 of 5 of the reference.
    found = result("rouge", predictions=["the cat fell down"], references=["the small cat lay down"])
    assert found["rougeL_recall"] == pytest.approx(3 / 5)
    assert found["rougeL"] == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert found["rouge1"] == found["rougeL"]
    assert result("rouge", predictions=["down the cat"], references=["the cat down"])["rouge1"] == 1.0


def test_rouge_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(ImportError, match="pip install rouge-score"):
        result("rouge", **EXAMPLES["rouge"])


def test_a_text_without_repetition_scores_zero_and_a_loop_almost_one():
    assert result("repetition", predictions=["one two three four five six"]) == {"repetition": 0.0, "degenerate": 0.0}
    # 50 words have 47 sequences of four, of which one is new.
    found = result("repetition", predictions=["so " * 50])
    assert found == {"repetition": pytest.approx(46 / 47), "degenerate": 1.0}


def test_repetition_by_hand():
    # a b, b a, a b, b c: three of four pairs are new.
    assert result("repetition", predictions=["a b a b c"], n=2)["repetition"] == pytest.approx(1 / 4)


def test_silence_is_degenerate_and_a_short_answer_is_not():
    assert result("repetition", predictions=[" \n", "yes"]) == {"repetition": 0.0, "degenerate": 0.5}


@pytest.mark.parametrize(
    ("text", "parses"),
    [
        ("def f(n):\n    return n + 1\n", 1.0),
        ("def f(n):\n    return n +", 0.0),
        ("def f(n):\n    m = n\n    return m +", 1.0),
        ("The history of Rome\nbegan when", 0.0),
        ("# nothing but a comment", 0.0),
        ("", 0.0),
        ("x = '\\d'", 1.0),
        ("a\0b", 0.0),
        ("(" * 5000, 0.0),
    ],
)
def test_a_program_parses_whole_or_without_its_last_line(text, parses):
    assert result("python_parses", predictions=[text]) == {"python_parses": parses}


def test_the_best_choice_counts_and_a_tie_is_a_guess():
    found = result("multiple_choice", predictions=[[-1.0, -2.0], [-1.0, -2.0], [-1.0, -1.0, -5.0, -6.0]], references=[0, 1, 0])
    assert found == {"accuracy": pytest.approx((1 + 0 + 0.5) / 3), "chance": pytest.approx((0.5 + 0.5 + 0.25) / 3)}


def test_a_model_without_preference_is_at_chance():
    found = result("multiple_choice", predictions=[[0.0] * 4] * 3, references=[0, 1, 2])
    assert found["accuracy"] == found["chance"] == 0.25


def test_the_right_choice_must_be_there():
    with pytest.raises(ValueError, match="must be one of 2, from 0, got 2"):
        result("multiple_choice", predictions=[[0.0, 1.0]], references=[2])
