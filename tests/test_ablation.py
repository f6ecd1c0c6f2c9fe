"""What a removed neuron reads: constants in masks, and the same as a shift of biases in weights."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from hf_untangle.architecture.biases import add_biases_, check_biases
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import KINDS
from hf_untangle.architecture.projections import bias_of
from hf_untangle.errors import ArchitectureError, MaskError
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.statistics.accumulators import observed
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.histogram_modes import collect_modes
from hf_untangle.survey.tiny_models import tiny_model

WITH_BIASES = ("llama", "gpt2", "opt", "gpt_neox")
"""Families whose output projections all have a bias, or a switch for one."""
WITHOUT = ("mistral", "qwen2", "qwen3", "gemma2", "phi3")


def half_removed(model, seed: int = 0) -> NeuronMask:
    groups = neuron_groups(model)
    generator = torch.Generator().manual_seed(seed)
    kept = {group.name: torch.rand(group.size, generator=generator) < 0.5 for group in groups}
    return NeuronMask.keep_all(groups, "tiny").with_kept(kept)


def constants_of(model, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {group.name: torch.randn(group.size, generator=generator).double() for group in neuron_groups(model)}


def logits(model, blocks) -> torch.Tensor:
    with torch.no_grad():
        return model(blocks.input_ids).logits


def test_a_masked_out_neuron_is_held_at_its_constant_and_the_others_move(model, blocks):
    mask, constants = half_removed(model), constants_of(model)
    seen = {}
    groups = neuron_groups(model)
    with (
        masked(model, mask, constants=constants),
        observed(model, groups, lambda group, reading: seen.setdefault(group.name, reading.values)),
    ):
        logits(model, blocks)
    for name, kept in mask.items():
        z = seen[name].flatten(0, -2)
        torch.testing.assert_close(z[:, ~kept], constants[name][~kept].float().expand(len(z), -1))
        assert z[:, kept].std(0).median() > 0


def test_a_constant_mask_leaves_the_model_as_it_was(model, untouched):
    with untouched(model), masked(model, half_removed(model), constants=constants_of(model)):
        pass


@pytest.mark.parametrize("family", WITH_BIASES)
def test_holding_neurons_at_constants_is_a_shift_of_biases(model, blocks, tmp_path):
    model.double()
    mask, constants = half_removed(model), constants_of(model)
    with masked(model, mask, constants=constants):
        expected = logits(model, blocks)
    remove_(model, mask, neuron_groups(model), constants=constants)
    torch.testing.assert_close(logits(model, blocks), expected, rtol=1e-9, atol=1e-9)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert torch.equal(logits(reloaded, blocks), logits(model, blocks))


@pytest.mark.parametrize("family", WITH_BIASES)
def test_removal_at_constants_of_zero_is_plain_removal(model, tiny_model, family, blocks):
    plain, mask = tiny_model(family), half_removed(model)
    groups = neuron_groups(model)
    remove_(plain, mask, groups)
    remove_(model, mask, groups, constants={group.name: torch.zeros(group.size).double() for group in groups})
    torch.testing.assert_close(logits(model, blocks), logits(plain, blocks))


def test_a_bias_of_zeros_changes_nothing_and_is_known_to_the_configuration(tiny_model, blocks):
    model = tiny_model("llama")
    before = logits(model, blocks)
    names = [group.name for group in neuron_groups(model) if group.kind == "ffn"]
    add_biases_(model, names)
    assert torch.equal(logits(model, blocks), before)
    assert model.config.mlp_bias and not model.config.attention_bias
    assert all(bias_of(model.get_submodule(name)) is not None for name in names)


@pytest.mark.parametrize("family", WITHOUT)
def test_a_bias_that_cannot_be_is_refused_and_nothing_is_written(model, untouched):
    mask, constants = half_removed(model), constants_of(model)
    with (
        untouched(model),
        pytest.raises(ArchitectureError, match="must have a bias .* knows no switch for one. Use ablation='zero'"),
    ):
        remove_(model, mask, neuron_groups(model), constants=constants)


@pytest.mark.parametrize("family", ["gemma2", "qwen3"])
def test_attention_can_have_a_bias_where_an_ffn_cannot(model):
    names = {kind: [group.name for group in neuron_groups(model) if group.kind == kind] for kind in KINDS}
    check_biases(model, names["attention"])
    with pytest.raises(ArchitectureError):
        check_biases(model, names["ffn"])


def test_a_neuron_that_never_changes_is_folded_into_the_bias_exactly(tiny_model, blocks):
    model = tiny_model("gpt2").double()
    group = next(group for group in neuron_groups(model) if group.kind == "ffn")
    constant = torch.arange(group.size) < 5
    producer = model.get_submodule(group.producers[0].name)
    with torch.no_grad():
        producer.weight[:, group.producers[0].rows[constant]] = 0  # only its bias is left
    before = logits(model, blocks)
    means = mean_ablation(collect(model, blocks, progress=False))
    mask = NeuronMask.keep_all(neuron_groups(model), "tiny")
    mask[group.name][constant] = False
    remove_(model, mask, neuron_groups(model), constants=means)
    torch.testing.assert_close(logits(model, blocks), before, rtol=1e-6, atol=1e-6)
    assert not producer.weight[:, group.producers[0].rows[constant]].any()


def test_means_are_those_of_the_activations(model, blocks):
    groups, seen = neuron_groups(model), {}
    with observed(model, groups, lambda group, reading: seen.setdefault(group.name, reading.values)):
        logits(model, blocks)
    for name, means in mean_ablation(collect(model, blocks, progress=False)).items():
        torch.testing.assert_close(means, seen[name].flatten(0, -2).double().mean(0), rtol=1e-4, atol=1e-5)


def test_no_constants_disturb_an_output_projection_less_than_the_means(model, blocks):
    group = neuron_groups(model)[0]
    down, mask, outputs = model.get_submodule(group.name), half_removed(model), []
    first = NeuronMask({group.name: mask[group.name]}, {group.name: group.kind}, "tiny")
    means = mean_ablation(collect(model, blocks, groups=[group], progress=False))
    handle = down.register_forward_hook(lambda _, __, output: outputs.append(output.double()))
    logits(model, blocks)
    for constants in (means, None, {group.name: 1.1 * means[group.name]}):
        with masked(model, first, constants=constants):
            logits(model, blocks)
    handle.remove()
    original, at_means, *others = outputs
    errors = [(output - original).square().sum() for output in (at_means, *others)]
    assert errors[0] == min(errors) > 0


class TestModes:
    def test_batches_change_nothing(self, model, padded_blocks):
        groups, moments = neuron_groups(model), collect(model, padded_blocks, progress=False)
        one, all_at_once = (
            collect_modes(model, padded_blocks, moments, groups=groups, batch_size=size, progress=False) for size in (1, 64)
        )
        for name, modes in one.items():
            assert torch.isfinite(modes).all()
            assert (modes - all_at_once[name]).abs().gt(
                1e-3
            ).double().mean() < 0.05  # equals may fall to either side of an edge

    def test_the_mode_is_where_most_values_are_and_not_the_mean(self, tiny_model, blocks):
        model = tiny_model("opt")  # relu: most neurons are zero most of the time
        groups = tuple(group for group in neuron_groups(model) if group.kind == "ffn")
        moments = collect(model, blocks, groups=groups, progress=False)
        modes = collect_modes(model, blocks, moments, groups=groups, progress=False)
        for name, found in modes.items():
            mostly_off = moments[name].positive / moments[name].count < 0.4
            means = moments[name].total / moments[name].count
            assert mostly_off.any()
            deviation = (moments[name].square / moments[name].count - means**2).sqrt()
            assert (found.abs() <= 6 / 65 * deviation + 1e-6)[mostly_off].all()
            assert (means[mostly_off & (means > 0)] > 0).all()

    def test_a_constant_has_itself_as_its_mode(self, tiny_model, blocks):
        model = tiny_model("gpt2")
        group = next(group for group in neuron_groups(model) if group.kind == "ffn")
        producer = model.get_submodule(group.producers[0].name)
        with torch.no_grad():
            producer.weight.zero_()
        moments = collect(model, blocks, groups=[group], progress=False)
        modes = collect_modes(model, blocks, moments, groups=[group], progress=False)[group.name]
        torch.testing.assert_close(modes, moments[group.name].total / moments[group.name].count, rtol=1e-5, atol=1e-7)


class TestExperts:
    def test_an_expert_is_filled_by_the_mean_over_its_own_tokens(self, blocks):
        model = tiny_model("mixtral", vocab_size=258)
        group = next(group for group in neuron_groups(model) if group.experts)
        sums, rows = torch.zeros(group.size).double(), torch.zeros(group.size).double()

        def add(_, reading):
            sums[reading.neurons] += reading.values.double().sum(0)
            rows[reading.neurons] += len(reading.values)

        with observed(model, [group], add):
            logits(model, blocks)
        means = mean_ablation(collect(model, blocks, groups=[group], progress=False))[group.name]
        torch.testing.assert_close(means, sums / rows.clamp_min(1), rtol=1e-4, atol=1e-6)

    def test_removed_neurons_of_experts_go_into_the_biases_of_their_experts(self, blocks):
        model = tiny_model("gpt_oss", vocab_size=258)
        groups = tuple(group for group in neuron_groups(model) if group.experts)
        mask, constants = half_removed(model), constants_of(model)
        mask = NeuronMask({group.name: mask[group.name] for group in groups}, dict.fromkeys(mask.kinds, "ffn"), "tiny")
        with masked(model, mask, constants=constants):
            expected = logits(model, blocks)
        remove_(model, mask, groups, constants=constants)
        torch.testing.assert_close(logits(model, blocks), expected, rtol=1e-4, atol=1e-4)


def test_a_mask_of_means_is_never_read_as_one_of_zeros(model, blocks, untouched):
    mask = replace(half_removed(model), ablation="mean")
    message = "was found with ablation='mean', so `constants=` must say what its removed neurons read"
    with untouched(model), pytest.raises(MaskError, match=message), masked(model, mask):
        pass
    with untouched(model), pytest.raises(MaskError, match=message):
        remove_(model, mask, neuron_groups(model))
    with masked(model, mask, constants={}):
        silenced = logits(model, blocks)
    with masked(model, replace(mask, ablation="zero")):
        torch.testing.assert_close(logits(model, blocks), silenced)
    with masked(model, replace(mask.with_kept({name: torch.ones_like(kept) for name, kept in mask.items()}))):
        pass
