"""Saliency: sums of activation times gradient, and what they predict."""

from dataclasses import replace

import pytest
import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.projections import input_axis, weight_of
from hf_untangle.errors import StatisticsError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.pruning.step import Evidence, predicted_gains
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import Saliency, collect_saliency, collect_with_saliency


def saliency(model, blocks, **options):
    return collect_saliency(model, blocks, groups=neuron_groups(model), progress=False, **options)


def summed_loss(model, blocks) -> float:
    with torch.no_grad():
        inputs = blocks.inputs(torch.device("cpu"))
        labels = inputs["input_ids"].masked_fill(~blocks.attention_mask, -100)
        return float(model(**inputs, labels=labels).loss) * int((labels[:, 1:] != -100).sum())


def test_the_first_sum_is_the_slope_of_the_loss_as_a_neuron_fades(model, blocks):
    model.double()
    found = saliency(model, blocks)
    group = neuron_groups(model)[-1]
    neuron = int(found[group.name].first.abs().argmax())
    fade = 1e-2  # the loss is taken in float32, which drowns smaller steps

    def faded(_, args):
        activations = args[0].clone()
        activations[..., neuron] *= 1 - fade
        return (activations,)

    before = summed_loss(model, blocks)
    handle = model.get_submodule(group.name).register_forward_pre_hook(faded)
    after = summed_loss(model, blocks)
    handle.remove()
    assert (after - before) / fade == pytest.approx(-float(found[group.name].first[neuron]), rel=5e-2)


def test_batches_and_padding_change_nothing(model, blocks, padded_blocks):
    model.double()
    for some in (blocks, padded_blocks):
        one, all_at_once = saliency(model, some, batch_size=1), saliency(model, some, batch_size=64)
        for name, sums in one.items():
            torch.testing.assert_close(sums.first, all_at_once[name].first, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(sums.second, all_at_once[name].second, rtol=1e-4, atol=1e-8)
            torch.testing.assert_close(sums.absolute, all_at_once[name].absolute, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["llama"])
def test_the_loss_is_that_of_the_predictions_whatever_loss_a_model_takes_itself(model, blocks, monkeypatch):
    wanted = saliency(model, blocks)

    def other_loss(*_, **__) -> torch.Tensor:
        raise ValueError("this model counts image tokens in front of the text")

    monkeypatch.setattr(type(model), "loss_function", property(lambda _: other_loss), raising=False)
    with pytest.raises(ValueError, match="image tokens"):
        summed_loss(model, blocks)
    for name, sums in saliency(model, blocks).items():
        assert torch.equal(sums.first, wanted[name].first)


def test_one_pass_gives_the_saliency_and_the_statistics_that_two_would(model, blocks, padded_blocks, untouched):
    for some in (blocks, padded_blocks):
        groups = neuron_groups(model)
        with untouched(model):
            statistics, found = collect_with_saliency(model, some, groups=groups, batch_size=3, roots=True, progress=False)
        apart = collect(model, some, groups=groups, batch_size=3, roots=True, progress=False)
        assert statistics.corpora == apart.corpora
        for name, sums in saliency(model, some, batch_size=3).items():
            assert torch.equal(found[name].first, sums.first) and found[name].count == sums.count
            for part in ("count", "total", "absolute", "square", "positive", "root"):
                torch.testing.assert_close(getattr(statistics[name], part), getattr(apart[name], part))


def test_parameters_need_no_gradient_and_get_none(model, blocks, untouched):
    wanted = saliency(model, blocks)
    model.requires_grad_(False)
    with untouched(model):
        found = saliency(model, blocks)
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, sums in found.items():
        torch.testing.assert_close(sums.first, wanted[name].first)


def test_a_silenced_neuron_has_no_saliency(model, blocks):
    groups = neuron_groups(model)
    mask = NeuronMask.keep_all(groups, "tiny")
    mask[groups[0].name][:3] = False
    with masked(model, mask):
        found = saliency(model, blocks)[groups[0].name]
    assert not found.first[:3].any() and not found.second[:3].any() and found.first[3:].any()


def test_the_first_sum_is_the_slope_along_the_column_that_reads_the_neuron(model, blocks):
    model.double()
    found = saliency(model, blocks)
    group = neuron_groups(model)[-1]
    weight = weight_of(model.get_submodule(group.name))
    inputs = blocks.inputs(torch.device("cpu"))
    tokens = inputs["input_ids"][:, 1:].numel()
    gradient = torch.autograd.grad(model(**inputs, labels=inputs["input_ids"]).loss * tokens, weight)[0]
    expected = (weight * gradient).detach().sum(1 - input_axis(model.get_submodule(group.name)))
    torch.testing.assert_close(found[group.name].first, expected.double(), rtol=1e-3, atol=1e-3)


def test_sizes_are_at_least_the_sums_that_may_cancel(model, blocks):
    for sums in saliency(model, blocks).values():
        assert (sums.absolute >= sums.first.abs() - 1e-6).all()
        assert (sums.absolute**2 <= sums.count * 2 * sums.second + 1e-6).all()


def test_the_predicted_rise_by_hand():
    sums = Saliency(4, torch.tensor([2.0, -1.0]).double(), torch.tensor([8.0, 0.0]).double(), torch.tensor([2.0, 1.0]).double())
    assert sums.loss_rise().tolist() == [(-2 + 8 / 2) / 4, 1 / 4]


def test_gradients_that_are_not_finite_are_refused(model, blocks):
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(StatisticsError, match="must be finite.*candidates=1"):
        saliency(model, blocks)


def test_among_candidates_those_go_that_cost_forget_most_and_retain_least():
    def rises(*values: float) -> dict[str, Saliency]:
        return {"down": Saliency(1, -torch.tensor(values).double(), *torch.zeros(2, len(values)).double())}

    nothing = ActivationStatistics({}, "toy", None, "float32", ())
    evidence = Evidence(nothing, nothing, rises(3.0, 2.0, 5.0), rises(1.0, 0.0, 0.0))
    without = NeuronMask({"down": torch.tensor([False, False, True])}, {"down": "ffn"}, "toy")
    gains = predicted_gains(without, evidence, retain_weight=2.0)["down"]
    assert gains.tolist() == [1.0, 2.0, -torch.inf]


def test_only_the_first_blocks_are_taken(blocks):
    few = blocks.first(1)
    assert len(few.input_ids) == 1 and torch.equal(few.input_ids[0], blocks.input_ids[0])
    assert replace(few, part=blocks.part).first(10).input_ids.shape == few.input_ids.shape
