"""The sweep finds shares that can be worked out by hand, and leaves the network as it was."""

import logging
import math

import pytest
import torch
from torch import nn

from hf_untangle.density import SweepConfig, sweep
from hf_untangle.density.crossing import around_crossings, first_crossing, last_crossing
from hf_untangle.density.measure import Measure
from hf_untangle.density.tolerance import TOLERANCES
from hf_untangle.errors import ArchitectureError, ConfigError, StatisticsError


@pytest.fixture
def ladder() -> nn.Linear:
    """Ten weights, 1 to 10, in one row."""
    network = nn.Linear(10, 1, bias=False)
    network.weight.data = torch.tensor([[3.0, 1, 4, 10, 5, 9, 2, 6, 8, 7]])
    return network


@pytest.fixture
def classifier() -> nn.Linear:
    """Four classes, each told by its own input; the other twelve weights are small and not needed."""
    network = nn.Linear(4, 4, bias=False)
    torch.manual_seed(0)
    network.weight.data = torch.eye(4) + 0.01 * torch.rand(4, 4)
    return network


def sum_of_weights(network):
    """The share of the ladder's sum, 55, that is left."""
    return network.weight.sum().item() / 55


def accuracy(network):
    return (network(torch.eye(4)).argmax(-1) == torch.arange(4)).float().mean().item()


def run(network, evaluate, **settings):
    return sweep(network, evaluate, progress=False, **settings)


def test_a_ladder_of_weights_by_hand(ladder):
    # Without 1 the sum is 54/55 = 0.982; without 1 and 2 it is 52/55 = 0.945, which is more than 0.05 below 1.
    result = run(ladder, sum_of_weights)
    assert (result.base, result.limit) == (pytest.approx(1), pytest.approx(0.95))
    assert result.first == result.last == pytest.approx(0.19)  # floor(0.19 x 10) = 1 and floor(0.20 x 10) = 2
    assert (result.parameters, result.unprunable, result.falls) == (10, 9, True)
    assert result.density == pytest.approx(0.81)


def test_a_classifier_whose_prunable_share_is_known(classifier):
    result = run(classifier, accuracy, grid=tuple(count / 16 for count in range(1, 17)), refine=0.0)
    assert result.first == 12 / 16
    assert result.unprunable == 4
    assert [point.value for point in result.curve[:13]] == [1.0] * 13


def test_the_curve_is_that_of_pruning_by_sorting():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    x = torch.randn(50, 5)
    scores = torch.cat([network[0].weight.abs().flatten(), network[2].weight.abs().flatten()]).sort().values

    def output(module):
        return module(x).abs().sum().item()

    def pruned(count):
        copy = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
        copy.load_state_dict(network.state_dict())
        for layer in (copy[0], copy[2]):
            layer.weight.data[layer.weight.abs() < scores[count]] = 0
        return output(copy)

    result = run(network, output, grid=(0.25, 0.5, 0.75), refine=0.0, tolerance="relative", allowed=0.99)
    for point in result.curve:
        assert point.parameters == int(point.share * 56)
        assert point.value == pytest.approx(pruned(point.parameters))


def test_by_layer_every_tensor_loses_the_same_share():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    network[1].weight.data *= 100
    settings = {"grid": (0.3,), "refine": 0.0}
    by_layer = run(network, lambda _: 1.0, scope="layer", **settings)
    overall = run(network, lambda _: 1.0, **settings)
    assert [tensor.removed for tensor in by_layer.tensors] == [30, 30]
    assert [tensor.removed for tensor in overall.tensors] == [60, 0]
    assert [tensor.share for tensor in overall.tensors] == [0.6, 0]


def test_wanda_takes_what_reads_small_inputs_first(ladder):
    inputs = torch.ones(8, 10)
    inputs[:, 3] = 0.01  # the weight of 10 reads almost nothing: 10 x 0.01 = 0.1

    def read(network):
        return float(network(inputs).shape[0])

    seen = []

    def evaluate(network):
        seen.append(network.weight.clone())
        return read(network)

    run(ladder, evaluate, score="wanda", grid=(0.1,), refine=0.0)
    assert (seen[-1] == 0).nonzero().tolist() == [[0, 3]]


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Conv2d(4, 6, 3, groups=2), torch.randn(2, 4, 5, 5)),
        (nn.Conv1d(3, 5, 2), torch.randn(2, 3, 7)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), torch.randn(2, 4, 5, 5)),
    ],
)
def test_wanda_of_kernels_scales_with_each_input_channel(layer, x):
    from hf_untangle.density.weight_scores import wanda

    score = wanda(layer, lambda module: module(x))("weight", layer.weight.detach())
    norms = x.movedim(1, -1).flatten(0, -2).square().mean(0).sqrt()
    transposed = isinstance(layer, nn.ConvTranspose2d)
    outputs, inputs = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    for channel in range(layer.in_channels):
        group, inside = divmod(channel, inputs)
        reads = (
            (layer.weight[channel], score[channel])
            if transposed
            else (layer.weight[group * outputs : (group + 1) * outputs, inside],
                  score[group * outputs : (group + 1) * outputs, inside])
        )  # fmt: skip
        torch.testing.assert_close(reads[1], reads[0].detach().abs() * norms[channel])


def test_scores_of_the_callers_own_are_followed(ladder):
    seen = []

    def evaluate(network):
        seen.append(network.weight.clone())
        return 1.0

    run(ladder, evaluate, scores={"weight": 11 - ladder.weight.detach()}, grid=(0.2,), refine=0.0)
    assert sorted(ladder.weight[seen[-1] == 0].tolist()) == [9, 10]
    with pytest.raises(ConfigError, match=r"scores must hold a tensor of shape \(1, 10\).*`weight`, but one of shape \(3,\)"):
        run(ladder, evaluate, scores={"weight": torch.ones(3)})


def test_random_order_is_the_same_for_the_same_seed_alone():
    torch.manual_seed(0)
    network = nn.Linear(30, 30)

    def curve(seed):
        return [
            point.value for point in run(network, lambda m: m.weight.abs().sum().item() / 100, score="random", seed=seed).curve
        ]

    assert curve(0) == curve(0) != curve(1)


def test_the_network_is_bit_equal_afterwards(untouched, classifier):
    classifier.weight.data[0, 1] = -0.0
    with untouched(classifier):
        run(classifier, accuracy)
    assert math.copysign(1, classifier.weight[0, 1].item()) == -1


def test_the_network_is_bit_equal_after_an_error_and_an_interruption(untouched, classifier):
    for error in (RuntimeError, KeyboardInterrupt):
        calls = iter(range(100))

        def evaluate(network, error=error, calls=calls):
            if next(calls) == 4:
                assert (network.weight == 0).any()
                raise error("in the middle")
            return 1.0

        with untouched(classifier), pytest.raises(error, match="in the middle"):
            run(classifier, evaluate)


@pytest.mark.parametrize("training", [True, False])
def test_running_statistics_and_modes_are_left_alone(untouched, training):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 2))
    network.train(training)
    x = torch.randn(4, 1, 4, 4)
    with untouched(network):
        run(network, lambda module: module(x).abs().mean().item(), score="wanda")


def test_every_share_starts_from_the_trained_weights(ladder):
    values = {}

    def evaluate(network):
        values[int((network.weight == 0).sum())] = network.weight.clone()
        return 1.0

    run(ladder, evaluate, grid=(0.5, 0.7, 0.9), refine=0.0)
    assert set(values) == {0, 5, 7, 9}
    for weights in values.values():
        assert torch.equal(weights[weights != 0], ladder.weight[weights != 0])


def test_a_metric_that_never_falls_says_so_and_gives_the_whole(ladder, caplog):
    with caplog.at_level(logging.WARNING, logger="hf_untangle"):
        result = run(ladder, lambda _: 0.5)
    assert (result.first, result.unprunable, result.falls) == (1.0, 0, False)
    assert "The metric never left its limit: 100% of all weights can go." in caplog.text
    assert "never left its limit" in result.describe()


def test_a_metric_that_is_no_number_is_refused_on_the_whole_network_and_counts_as_lost_on_a_pruned_one(ladder):
    with pytest.raises(StatisticsError, match="The metric of the whole network must be a finite number, but it is nan"):
        run(ladder, lambda _: math.nan)
    result = run(ladder, lambda network: math.nan if (network.weight == 0).sum() > 3 else 1.0)
    assert result.first == pytest.approx(0.39)


def test_a_curve_that_comes_back_has_two_crossings(ladder):
    dip = {4: 0.0, 5: 0.0, 8: 0.0, 9: 0.0, 10: 0.0}
    result = run(ladder, lambda network: dip.get(int((network.weight == 0).sum()), 1.0))
    assert (result.first, result.last) == (pytest.approx(0.39), pytest.approx(0.79))


def test_the_grid_is_refined_between_the_shares_where_the_metric_falls():
    curve = {0.0: 1.0, 0.25: 1.0, 0.5: 0.2, 0.75: 1.0, 1.0: 0.0}
    found = around_crossings(curve, lambda value: value > 0.5, 0.1)
    assert found == [0.3, 0.4, 0.8, 0.9]
    assert around_crossings(curve, lambda value: value > 0.5, 0.0) == []
    assert around_crossings(curve, lambda value: value >= 0, 0.1) == []
    assert (first_crossing(curve, lambda value: value > 0.5), last_crossing(curve, lambda value: value > 0.5)) == (0.25, 0.75)


def test_refining_finds_what_the_full_grid_finds_where_the_metric_only_falls():
    torch.manual_seed(0)
    network = nn.Linear(40, 40)
    total = network.weight.abs().sum().item()

    def left(module):
        return module.weight.abs().sum().item() / total

    full = run(network, left, grid=tuple(tick / 100 for tick in range(1, 101)), refine=0.0)
    refined = run(network, left)
    assert (refined.first, refined.unprunable) == (pytest.approx(full.first), full.unprunable)
    assert len(refined.curve) < 30 < len(full.curve)


@pytest.mark.parametrize(
    ("tolerance", "allowed", "base", "limit"),
    [
        ("points", None, 0.8, 0.75),
        ("relative", None, 0.8, 0.76),
        ("loss", None, 2.0, 2.1),
        ("perplexity", 2.0, 2.0, 2.0 + math.log(2)),
    ],
)
def test_tolerances_by_hand(tolerance, allowed, base, limit):
    settings = SweepConfig(tolerance=tolerance, allowed=allowed)
    kind = TOLERANCES[tolerance]
    assert kind.limit(base, settings.allowance) == pytest.approx(limit)
    better = 0.01 if kind.metric == "accuracy" else -0.01
    assert kind.holds(limit + better, limit) and kind.holds(limit, limit)
    assert not kind.holds(limit - better, limit) and not kind.holds(math.nan, limit)


def test_an_evaluation_set_too_small_for_the_tolerance_is_refused_with_its_resolution(classifier):
    small = Measure(accuracy, accuracy, examples=4)
    with pytest.raises(ConfigError, match=r"this has 4 examples, so that accuracy moves in steps of 25 points, and only 5 may"):
        run(classifier, small)
    assert run(classifier, small, allowed=0.3).resolution == 0.25
    assert run(classifier, accuracy).resolution is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": "layers"}, "`unit`: input should be 'weights' or 'neurons', got 'layers'"),
        ({"score": "size"}, "`score`: input should be 'magnitude', 'wanda' or 'random', got 'size'"),
        ({"tolerance": "none"}, "`tolerance`: must be one of points, relative, loss, perplexity"),
        ({"parts": ("heads",)}, "`parts.0`: input should be 'weights', 'biases'"),
        ({"grid": (0.5, 0.2)}, "`grid`: must be shares above 0 and at most 1, increasing"),
        ({"grid": ()}, "`grid`: must be shares above 0"),
        ({"grid": (0.5, 1.5)}, "`grid`: must be shares above 0"),
        ({"refine": 1.0}, "`refine`: input should be less than 1, got 1.0"),
        ({"allowed": -0.1}, "allowed must be above 0 for the tolerance `points`, got -0.1"),
        ({"tolerance": "loss", "allowed": 0.9}, "allowed must be above 1 for the tolerance `loss`"),
        ({"step": 0.1}, "There is no setting `step`"),
    ],
)
def test_settings_out_of_range_are_refused(classifier, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(classifier, accuracy, **settings)


def test_a_corpus_cannot_judge_a_network_that_reads_no_tokens(classifier):
    with pytest.raises(ArchitectureError, match="A corpus can judge a causal language model from transformers, got a Linear"):
        run(classifier, "general")


def test_the_record_holds_everything_as_plain_values(classifier):
    record = run(classifier, accuracy).record()
    assert record["density"] == pytest.approx(1 - record["first"])
    assert record["config"]["score"] == "magnitude"
    assert record["curve"][0] == {"share": 0.0, "value": 1.0, "parameters": 0}
