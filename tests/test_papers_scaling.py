"""Families across widths: trained alike, swept alike, and summed up by one line."""

import math

import datasets
import pytest
import torch
from torch import nn
from toy_languages import BLOCK, WORDS

from hf_untangle import models
from hf_untangle.density import Measure, SweepConfig, measure
from hf_untangle.errors import ConfigError, CorpusError
from hf_untangle.papers import (
    LabeledImages,
    LanguageTraining,
    Training,
    across_widths,
    image_family,
    language_family,
    pretrained_family,
)
from hf_untangle.papers.image_classifiers import accuracy, trained_classifier
from hf_untangle.papers.image_sets import labeled_images
from hf_untangle.papers.networks import NETWORKS
from hf_untangle.papers.scaling.families import FAMILIES, Family, Member, family_of
from hf_untangle.papers.scaling.language import byte_text, trained_language_model
from hf_untangle.papers.scaling.scaling import Run, ScalingResult, fit_line

FAST = {"grid": (0.3, 0.6, 0.9), "refine": 0.1, "progress": False}


@pytest.fixture(scope="module")
def shapes() -> LabeledImages:
    """Bright rows, one per class, with some noise: eight rows of eight pixels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(160) % 4
    pixels = 0.3 * torch.rand(160, 1, 8, 8, generator=generator)
    pixels[torch.arange(160), 0, 2 * labels] += 0.7
    return LabeledImages(pixels[:100], labels[:100], pixels[100:], labels[100:], classes=4)


def runs_of(cores):
    """Runs of one seed each, by prunable parameters."""
    return tuple(Run(size, 0, size, 0.9, 1 - core / size, 0.9, core, None) for size, core in cores.items())


def result_of(cores):
    return ScalingResult("made", SweepConfig(), runs_of(cores), 0.0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_networks_read_images_of_any_size_and_differ_in_width_alone(name, shape):
    for width in (2, 5):
        network = NETWORKS[name](width, shape, 10)
        assert network(torch.rand(3, *shape)).shape == (3, 10)
        layers = [type(module) for module in network.modules()]
        assert layers == [type(module) for module in NETWORKS[name](9, shape, 10).modules()]


def test_the_number_of_weights_by_hand():
    weights = sum(parameter.numel() for parameter in NETWORKS["mlp"](16, (1, 8, 8), 10).parameters() if parameter.ndim > 1)
    assert weights == 64 * 16 + 16 * 16 + 16 * 10 == 1440


@pytest.mark.parametrize("name", NETWORKS)
def test_every_classifier_learns_and_its_core_is_smaller_than_it(name, shapes):
    family = image_family(name, data=shapes, training=Training(epochs=15, learning_rate=1e-2, batch_size=20))
    result = across_widths(family, (6, 12), (0,), **FAST)
    assert result.family == name
    for run in result.runs:
        assert run.base > 0.9
        assert 0 < run.unprunable < run.parameters
        assert run.random is not None


def test_training_depends_on_the_seed_alone_and_leaves_the_callers_random_state(shapes):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (trained_classifier("mlp", 4, shapes, Training(epochs=1), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[1].weight, again[1].weight) and not torch.equal(first[1].weight, other[1].weight)
    assert not first.training


def test_the_initial_scale_multiplies_what_training_begins_from(shapes):
    tiny = Training(epochs=1, learning_rate=1e-12)
    once, thrice = (trained_classifier("mlp", 4, shapes, Training(**vars(tiny) | {"initial_scale": s}), 0) for s in (1.0, 3.0))
    torch.testing.assert_close(thrice[1].weight, 3 * once[1].weight)
    torch.testing.assert_close(thrice[1].bias, 3 * once[1].bias)


def test_weight_decay_shrinks_what_learns_nothing():
    nothing = LabeledImages(torch.zeros(10, 1, 8, 8), torch.arange(10), torch.zeros(10, 1, 8, 8), torch.arange(10), classes=10)
    kept, decayed = (
        trained_classifier("mlp", 4, nothing, Training(epochs=10, weight_decay=decay), 0)[1].weight for decay in (0.0, 10.0)
    )
    torch.testing.assert_close(decayed, kept * (1 - 1e-3 * 10) ** 10)


def test_accuracy_is_the_share_of_test_images_that_are_right(shapes):
    class Guess(nn.Module):
        def forward(self, x):
            return nn.functional.one_hot(x[:, 0].mean(-1).argmax(-1) // 2, 4).float()

    class Always(nn.Module):
        def forward(self, x):
            return torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(len(x), -1)

    assert accuracy(Guess(), shapes) == 1.0
    assert accuracy(Always(), shapes) == 0.25


def test_the_digits_are_the_embedded_images():
    pytest.importorskip("sklearn")
    found = labeled_images("digits")
    assert found.shape == (1, 8, 8) and found.classes == 10
    assert (len(found.train_x), len(found.test_x)) == (1297, 500)
    assert float(found.train_x.min()) >= 0 and float(found.train_x.max()) == 1


@pytest.mark.parametrize(("name", "column", "shape"), [("mnist", "image", (28, 28)), ("cifar10", "img", (32, 32, 3))])
def test_images_of_the_hub_are_read_as_channels_first(monkeypatch, name, column, shape):
    image = pytest.importorskip("PIL.Image")
    pictures = [image.fromarray(torch.full(shape, 51 * index, dtype=torch.uint8).numpy()) for index in range(5)]
    rows = [{column: picture, "label": label} for label, picture in enumerate(pictures)]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    found = labeled_images(name)
    assert found.train_x.shape == (5, 3 if len(shape) == 3 else 1, *shape[:2])
    torch.testing.assert_close(found.train_x[:, 0, 0, 0], torch.arange(5) / 5)
    assert found.classes == 5


def test_images_that_cannot_be_read_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="Images must be one of digits, mnist, cifar10, got `faces`"):
        labeled_images("faces")

    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(CorpusError, match=r"`ylecun/mnist` must be readable from the Hub, but it is not \(no network\)"):
        labeled_images("mnist")


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_language_models_learn_bytes_by_trainer(architecture):
    training = LanguageTraining(steps=40, learning_rate=1e-2, batch_size=8, block_size=32, tokens=4000)
    family = language_family(architecture, corpus=WORDS, training=training)
    result = across_widths(family, (8, 16), (0,), control=False, **FAST)
    assert [run.random for run in result.runs] == [None, None]
    assert all(run.base > 0.2 for run in result.runs)  # a guess among the letters is right less than one time in ten
    assert result.runs[1].parameters > 3 * result.runs[0].parameters


def test_widths_that_do_not_divide_into_heads_are_refused():
    training = LanguageTraining(steps=1, block_size=32, tokens=500)
    with pytest.raises(ConfigError, match="must be a multiple of 8, got 12"):
        trained_language_model("llama", 12, byte_text(WORDS, training), training, 0)


def test_models_that_exist_already_are_loaded_by_name(monkeypatch, toy_model, tokenizer):
    monkeypatch.setattr(measure, "BLOCK_SIZE", BLOCK)
    asked = []
    monkeypatch.setattr(models, "load", lambda name, dtype: (asked.append(name), (toy_model, tokenizer))[1])
    result = across_widths(pretrained_family("org/toy-{}", corpus=WORDS), ("70m",), (0,), **FAST)
    assert asked == ["org/toy-70m"]
    assert result.runs[0].width == "70m"


def test_a_power_law_is_found_by_hand():
    fit = result_of({size: round(3 * size**0.5) for size in (100, 10_000, 1_000_000)}).fit
    assert fit.slope == pytest.approx(0.5)
    assert math.exp(fit.intercept) == pytest.approx(3)
    assert fit.slope_error == pytest.approx(0, abs=1e-6)


def test_the_error_of_the_slope_is_that_of_the_textbook():
    points = [(0.0, 0.1), (1.0, 0.9), (2.0, 2.2), (3.0, 2.8)]
    fit = fit_line(points)
    assert fit.slope == pytest.approx(0.94)
    residuals = sum((y - fit.slope * x - fit.intercept) ** 2 for x, y in points)
    assert fit.slope_error == pytest.approx(math.sqrt(residuals / 2 / 5))
    assert fit_line(points[:2]).slope_error == math.inf


def test_there_is_no_line_through_one_size_or_through_nothing():
    assert result_of({10: 5}).fit is None
    assert result_of({10: 0, 20: 0}).record()["fit"] is None


def test_two_runs_make_no_slope_which_any_line_would_fit():
    assert result_of({100: 60, 1000: 200}).fit is None
    assert result_of({100: 60, 1000: 200, 2000: 0}).fit is None


@pytest.mark.parametrize("cores", [{401: 401}, {100: 0, 1000: 0}, {100: 60, 1000: 0}])
def test_nothing_is_claimed_of_one_size_or_of_networks_without_a_core(cores):
    assert result_of(cores).claims == ()


def test_claims_by_hand():
    growing, stable, invariant = result_of({100: 60, 1000: 200, 2000: 300, 4000: 540}).claims
    assert (growing.holds, stable.holds, invariant.holds) == (True, True, False)
    assert stable.evidence == "6.5 points apart (at most 10)"
    shrinking, *_ = result_of({100: 60, 1000: 50}).claims
    assert not shrinking.holds
    assert all(claim.holds for claim in result_of({100: 20, 1000: 200}).claims)


def test_seeds_of_one_width_are_summed_up_together():
    runs = tuple(Run(8, seed, 100, 0.9, share, 0.9, int(100 * (1 - share)), 0.1) for seed, share in enumerate((0.4, 0.5, 0.6)))
    (width,) = ScalingResult("made", SweepConfig(), runs, 0.0).widths
    assert (width.share, width.share_spread) == (pytest.approx(0.5), pytest.approx(0.1))
    assert (width.unprunable, width.random) == (pytest.approx(50), pytest.approx(0.1))


def test_a_family_of_the_callers_own_is_swept_by_increasing_size():
    def member(width, seed, tolerance):
        network = nn.Linear(int(width), int(width), bias=False)
        nn.init.eye_(network.weight)
        evaluate = Measure(lambda module: module.weight.trace().item() / int(width), lambda module: None, examples=None)
        return Member(network, evaluate)

    result = across_widths(Family("identity", member), (8, 4), (0, 1), progress=False, grid=(0.5, 0.75, 0.9), refine=0.0)
    assert [run.width for run in result.runs] == [4, 4, 8, 8]
    assert [run.share for run in result.runs] == [0.75, 0.75, 0.75, 0.75]
    assert result.record()["fit"]["slope"] == pytest.approx(1)


def test_every_name_is_a_family():
    assert {name: family_of(name).name for name in FAMILIES} == {name: name for name in FAMILIES}
    assert family_of("org/model-{}").name == "org/model-{}"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: family_of("perceptron"),
            "A family must be one of mlp, convolutional, residual, gpt2, llama or a name such as",
        ),
        (lambda: image_family("vit"), "A network must be one of mlp"),
        (lambda: language_family("rnn"), "An architecture must be one of gpt2, llama"),
        (lambda: pretrained_family("org/model"), "must have `{}` instead of the width, got `org/model`"),
        (lambda: across_widths("mlp", ()), "widths must be different and seeds at least one"),
        (lambda: across_widths("mlp", (4, 4)), "widths must be different"),
        (lambda: across_widths("mlp", (4,), ()), "seeds at least one"),
        (lambda: Training(epochs=0), "A training needs positive epochs"),
        (lambda: across_widths("mlp", (4,), tolerance="loss", progress=False), "the tolerance `loss` needs a loss"),
    ],
)
def test_what_is_no_family_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
