"""Importance of neurons to one corpus, and scores between two."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.importance.observations import Observations
from hf_untangle.importance.registry import IMPORTANCE, needs_of
from hf_untangle.importance.scores import SCORES, Epsilon, difference, distance, forget_only, fused, rank, ratio, retain_only
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.pruning.step import Evidence, neuron_scores, remove_next
from hf_untangle.statistics import Gram
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.moments import MomentAccumulator, Moments
from hf_untangle.statistics.saliency import Saliency
from hf_untangle.statistics.weight_norms import WeightNorms

NONE = Epsilon(0.0, relative=False)


def moments_of(z: Tensor, roots: bool = True) -> Moments:
    accumulator = MomentAccumulator(z.shape[1], z.device, roots=roots)
    accumulator.update(z)
    return accumulator.result()


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("abs", (4 + 4 + 4 + 0) / 4),
        ("rms", (48 / 4) ** 0.5),
        ("std", (12 - 1) ** 0.5),
        ("freq", 2 / 4),
        ("sqrt", 6 / 4),
        ("mean", 1.0),
        ("entropy", 1.0),  # on at half of the tokens; the correction for few tokens is cut at one bit
        ("wanda", 12**0.5 * 3),
        ("fluctuation", 11**0.5 * 3),
        ("magnitude", 5.0),
        ("taylor", 10 / 4),
        ("signed-taylor", 6 / 4),
        ("second-order", (6 + 28 / 2) / 4),
        ("snip", 6 / 4),
        ("fisher", 28 / 4),
    ],
)
def test_importance_of_a_neuron_by_hand(name, expected):
    z = torch.tensor([[4.0], [4.0], [-4.0], [0.0]])
    # z g at the four tokens: 2, -4, -2, -2.
    saliency = Saliency(4, first=doubles(-6), second=doubles(28), absolute=doubles(10))
    norms = WeightNorms(column=doubles(3), rows=doubles(4))
    torch.testing.assert_close(IMPORTANCE[name](Observations(moments_of(z), saliency, norms)), doubles(expected))


def test_random_importance_is_the_same_for_the_same_seed_and_group_only():
    moments = moments_of(torch.ones(1, 5))
    first = IMPORTANCE["random"](Observations(moments, group="a"))
    assert torch.equal(first, IMPORTANCE["random"](Observations(moments, group="a")))
    assert not torch.equal(first, IMPORTANCE["random"](Observations(moments, group="b")))
    assert not torch.equal(first, IMPORTANCE["random"](Observations(moments, group="a", seed=1)))


@pytest.mark.parametrize("name", IMPORTANCE)
def test_an_importance_says_all_that_it_needs(name):
    z, sums, norms = moments_of(torch.ones(2, 3)), Saliency(2, *[doubles(1, 1, 1)] * 3), WeightNorms(*[doubles(1, 1, 1)] * 2)
    needs = needs_of(name)
    activations = z if "activations" in needs else None
    if "activations" in needs and "roots" not in needs:
        activations = replace(z, root=None)
    gram = Gram(torch.eye(3)[None], doubles(1, 1, 1)[None], torch.ones(1)) if "second moments" in needs else None
    seen = Observations(
        activations,
        sums if "gradients" in needs else None,
        norms if "weights" in needs else None,
        gram=gram,
        reads=None if gram is None else torch.ones(1, 2, 3),
    )
    assert IMPORTANCE[name](seen).shape == (3,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rms", "needs activations.*pass the statistics of `collect`"),
        ("taylor", "needs gradients.*pass the sums of `collect_saliency`"),
        ("wanda", "needs activations"),
        ("magnitude", "needs norms of weights.*pass those of `weight_norms`"),
    ],
)
def test_what_was_not_observed_is_missed_with_a_remedy(name, message):
    with pytest.raises(StatisticsError, match=message):
        IMPORTANCE[name](Observations())


def test_the_needs_of_joined_importances_are_those_of_all():
    assert needs_of("rms+taylor") == {"activations", "gradients"}
    assert needs_of("sqrt + wanda") == {"activations", "roots", "weights"}


REFERENCES = {
    "abs": lambda z: z.abs().mean(0),
    "rms": lambda z: z.square().mean(0).sqrt(),
    "std": lambda z: z.std(0, unbiased=False),
    "freq": lambda z: (z > 0).double().mean(0),
    "sqrt": lambda z: z.abs().sqrt().mean(0),
    "mean": lambda z: z.mean(0),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_importance_is_its_formula_on_random_activations(name):
    z = torch.randn(300, 11, generator=torch.Generator().manual_seed(0)) + 0.5
    torch.testing.assert_close(
        IMPORTANCE[name](Observations(moments_of(z))), REFERENCES[name](z.double()), rtol=1e-5, atol=1e-6
    )


def test_a_constant_neuron_has_no_deviation_rather_than_the_root_of_a_negative_rounding_error():
    z = torch.full((7, 1), 0.1)
    assert IMPORTANCE["std"](Observations(moments_of(z))).item() == pytest.approx(0, abs=1e-4)


def test_the_mean_of_roots_needs_their_sum():
    with pytest.raises(StatisticsError, match="`sqrt` needs the sum of sqrt.* Collect with roots=True"):
        IMPORTANCE["sqrt"](Observations(moments_of(torch.ones(1, 1), roots=False)))


def test_the_ratio_by_hand_with_an_absolute_and_a_relative_epsilon():
    forget, retain = doubles(6, 6), doubles(1, 3)
    assert ratio(forget, retain, NONE).tolist() == [6, 2]
    assert ratio(forget, retain, Epsilon(1.0, relative=False)).tolist() == [3, 1.5]
    assert ratio(forget, retain, Epsilon(0.5, relative=True)).tolist() == [3, 1.5]


def test_difference_is_in_units_of_the_groups_mean():
    forget, retain = doubles(6, 0), doubles(1, 3)
    assert difference(forget, retain, NONE).tolist() == [2.5, -1.5]
    assert difference(forget, retain, Epsilon(0.5, relative=False)).tolist() == [2, -1.2]
    torch.testing.assert_close(difference(10 * forget, 10 * retain, NONE), difference(forget, retain, NONE))


def test_distance_has_no_sign():
    assert distance(doubles(1, -2), doubles(3, 2), NONE).tolist() == [2, 4]


def test_one_corpus_alone_by_hand():
    forget, retain = doubles(6, 0), doubles(1, 3)
    assert forget_only(forget, retain, NONE).tolist() == [6, 0]
    assert retain_only(forget, retain, NONE).tolist() == [-1, -3]


def test_scores_are_fused_by_their_mean_rank_among_competitors():
    by_size = {"a": doubles(1, 100), "b": doubles(10), "c": doubles(5, 6)}
    by_slope = {"a": doubles(0.3, 0.2), "b": doubles(0.1), "c": doubles(2, 1)}
    found = fused([by_size, by_slope], [["a", "b"], ["c"]])
    assert {name: score.tolist() for name, score in found.items()} == {"a": [0.5, 0.75], "b": [0.25], "c": [0.5, 0.5]}


def test_rank_by_hand_and_free_of_scale():
    forget, retain = doubles(10, 30, 20), doubles(3, 1, 2)
    assert rank(forget, retain, NONE).tolist() == [-1, 1, 0]
    assert torch.equal(rank(forget**3, 100 * retain, NONE), rank(forget, retain, NONE))
    assert rank(doubles(1), doubles(2), NONE).tolist() == [0]


@pytest.mark.parametrize("name", SCORES)
def test_a_neuron_that_matters_more_to_forget_scores_higher(name):
    forget, retain = doubles(1, 5, 2, 3), doubles(2, 1, 2, 3)
    assert SCORES[name](forget, retain, Epsilon(0.1, relative=True)).argmax() == 1


@pytest.mark.parametrize("name", sorted(SCORES.keys() - {"retain"}))
def test_a_neuron_that_does_nothing_at_all_never_comes_first(name):
    forget, retain = doubles(0, 5, 2), doubles(0, 1, 3)
    scores = SCORES[name](forget, retain, NONE)
    assert torch.isfinite(scores).all()
    assert scores.argmax() == 1


def test_a_neuron_that_only_the_forget_corpus_needs_comes_first_without_an_epsilon():
    assert ratio(doubles(1, 5), doubles(0, 1), NONE).tolist() == [torch.inf, 5]


@pytest.mark.parametrize(
    ("text", "value", "relative"),
    [
        ("0.001", 0.001, False),
        (0.001, 0.001, False),
        ("1e-3", 0.001, False),
        (0.0, 0, False),
        ("10%", 0.1, True),
        ("0%", 0, True),
    ],
)
def test_epsilon_is_a_number_or_a_share_of_the_mean(text, value, relative):
    parsed = Epsilon.parse(text)
    assert (parsed.value, parsed.relative) == (pytest.approx(value), relative)


@pytest.mark.parametrize("text", ["", "%", "ten", "10%%", "-0.1", "-1%", "inf", "nan", "1,5"])
def test_an_epsilon_that_means_nothing_is_an_error(text):
    with pytest.raises(ConfigError, match=r"eps must be a number \(`0.001`\) or a share of the mean .* got `.*`"):
        Epsilon.parse(text)


def statistics_of(**activations: Tensor) -> ActivationStatistics:
    return ActivationStatistics({name: moments_of(z) for name, z in activations.items()}, "m", None, "float32", ())


GROUPS = (NeuronGroup("attention", "attention", 0, 4, (), heads=2), NeuronGroup("ffn", "ffn", 0, 4, ()))


def test_every_kind_is_scored_with_its_own_epsilon():
    forget = statistics_of(attention=torch.full((1, 4), 6.0), ffn=torch.full((1, 4), 6.0))
    retain = statistics_of(attention=torch.full((1, 4), 1.0), ffn=torch.full((1, 4), 1.0))
    config = UnlearnConfig(importance="abs", ffn_eps="1", attention_eps="200%")
    scores = neuron_scores(Evidence(forget, retain, {}, {}), GROUPS, config)
    assert scores["ffn"].tolist() == [3] * 4
    assert scores["attention"].tolist() == [2] * 4


def test_the_veto_spares_the_top_of_retain_in_every_group():
    forget = statistics_of(attention=torch.ones(1, 4), ffn=torch.ones(1, 4))
    retain = statistics_of(attention=torch.tensor([[4.0, 3.0, 2.0, 1.0]]), ffn=torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    scores = neuron_scores(Evidence(forget, retain, {}, {}), GROUPS, UnlearnConfig(importance="abs", veto=0.5))
    assert (scores["attention"] == -torch.inf).tolist() == [True, True, False, False]
    assert (scores["ffn"] == -torch.inf).tolist() == [False, False, True, True]


def test_without_a_veto_no_neuron_is_spared():
    same = statistics_of(attention=torch.ones(1, 4), ffn=torch.ones(1, 4))
    scores = neuron_scores(Evidence(same, same, {}, {}), GROUPS, UnlearnConfig(importance="rms"))
    assert all(torch.isfinite(score).all() for score in scores.values())


def test_joined_importances_are_fused_within_a_kind():
    forget = statistics_of(attention=torch.ones(1, 4), ffn=torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    retain = statistics_of(attention=torch.ones(1, 4), ffn=torch.ones(1, 4))
    scores = neuron_scores(Evidence(forget, retain, {}, {}), GROUPS, UnlearnConfig(importance="abs+rms"))
    assert scores["ffn"].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])


def test_joined_importances_are_fused_whatever_the_sizes_of_groups():
    groups = (NeuronGroup("ffn", "ffn", 0, 3, ()), NeuronGroup("attention", "attention", 0, 2, (), heads=1))
    forget = statistics_of(ffn=torch.tensor([[3.0, 2.0, 1.0]]), attention=torch.tensor([[1.0, 2.0]]))
    retain = statistics_of(ffn=torch.ones(1, 3), attention=torch.ones(1, 2))
    scores = neuron_scores(Evidence(forget, retain, {}, {}), groups[::-1], UnlearnConfig(importance="abs+rms"))
    assert {name: score.tolist() for name, score in scores.items()} == {"ffn": [1, 0.5, 0], "attention": [0, 1]}


def test_a_gradient_set_difference_is_the_top_of_forget_less_the_top_of_retain():
    statistics = statistics_of(attention=torch.ones(1, 4), ffn=torch.ones(1, 4))

    def slopes(*ffn: float) -> dict[str, Saliency]:
        values = {"attention": doubles(1, 1, 1, 1), "ffn": doubles(*ffn)}
        return {name: Saliency(1, first, first, first) for name, first in values.items()}

    evidence = Evidence(statistics, statistics, slopes(9, 8, 7, 1), slopes(9, 1, 2, 3))
    config = UnlearnConfig(importance="snip", score="forget", veto=0.25, scope="layer", candidates=1)
    mask = remove_next(NeuronMask.keep_all(GROUPS, "m"), evidence, GROUPS, config.with_settings(ffn_fraction=0.5))
    assert mask["ffn"].tolist() == [True, False, False, True]


@pytest.mark.parametrize("name", ["rsm", "rms+tailor"])
def test_an_importance_that_does_not_exist_is_an_error_with_the_nearest(name):
    with pytest.raises(ConfigError, match="`importance`: must be one of abs, .*did you mean `(rms|taylor)`"):
        UnlearnConfig().with_settings(importance=name)
