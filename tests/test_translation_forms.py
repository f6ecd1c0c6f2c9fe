"""What holds of all three forms of a network, KAN, ReLU network and three layers: half precision, empty batches, export."""

import copy

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertForMaskedLM, T5Config, T5ForConditionalGeneration

from hf_untangle import translation
from hf_untangle.errors import TranslationError


def network(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*[part for pair in layers for part in pair][:-1])


def forms(module: nn.Module) -> dict[str, nn.Module]:
    kans = {form: translation.relu_to_kan(module, form) for form in ("fused", "shifted", "alternating")}
    relus = {f"{name} back": translation.kan_to_relu(kan, factored=name != "fused") for name, kan in kans.items()}
    regions = translation.enumerate_regions(module, (-2, 2))
    return kans | relus | {form: translation.as_three_layers(regions, form) for form in ("halfopen", "closed", "gate")}


NAMES = ["fused", "shifted", "alternating", "fused back", "shifted back", "alternating back", "halfopen", "closed", "gate"]


@pytest.fixture(scope="module")
def made() -> dict[str, nn.Module]:
    return forms(network(3, 6, 5, 2))


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(20, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_form_runs_in_half_precision(made, x, name, dtype):
    half = copy.deepcopy(made[name]).to(dtype)
    y = half(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), network(3, 6, 5, 2)(x).detach(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_every_form_takes_an_empty_batch(made, x, name):
    first = next(made[name].parameters())
    assert made[name](x[:0].to(first)).shape == (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_every_form_is_exported_for_batches_of_any_size(made, x, name):
    points = x.to(next(made[name].parameters()))
    program = torch.export.export(made[name], (points,), dynamic_shapes=({0: torch.export.Dim("batch", max=64)},))
    for few in (points, points[:3]):
        assert torch.equal(program.module()(few), made[name](few))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("widths", [(3, 0, 2), (0, 4, 2), (3, 4, 0), (3, 4, 0, 2)])
def test_layers_of_no_width_have_every_form(widths):
    module, points = network(*widths), torch.randn(4, widths[0])
    for form in forms(module).values():
        y = form(points.to(next(form.parameters())))
        torch.testing.assert_close(y.float(), module(points).detach())


def test_a_dtype_in_which_finite_weights_are_infinite_is_refused_before_anything_changes():
    module = network(2, 3, 1)
    module[2].weight.data.mul_(1e6)
    layers = translation.three_layer(module, (-1, 1))
    with pytest.raises(TranslationError, match="holds finite numbers that are infinite in torch.float16"):
        layers.half()
    assert {parameter.dtype for parameter in layers.parameters()} == {torch.float64}
    assert layers.bfloat16().second.weight.dtype == torch.bfloat16


def test_knots_that_a_dtype_does_not_tell_apart_are_a_step():
    layer = translation.random_kan_layer(2, 3, torch.tensor([1.0, 1.0001, 2.0])).half()
    assert layer(torch.tensor([[1.0, 1.5]], dtype=torch.float16)).isfinite().all()


def test_a_translation_that_rounding_spoils_is_refused():
    kan = translation.random_kan_layer(2, 1, torch.linspace(-3, 3, 200)).bfloat16()
    kan.values.data[..., ::2] += 1000
    with pytest.raises(TranslationError, match=r"differs from the original by .* Translate it in float64: .double\(\)"):
        translation.kan_to_relu(kan)
    assert len(translation.kan_to_relu(kan.double())) == 3


def test_a_t5_of_relus_in_float16_is_swapped_though_its_projection_stays_in_float32(tmp_path):
    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="relu")
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    model = T5ForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float16)
    assert model.encoder.block[0].layer[1].DenseReluDense.wo.weight.dtype == torch.float32
    ids = torch.arange(7)[None]
    assert translation.TrainingWatch({"input_ids": ids, "decoder_input_ids": ids}).look(model).kan_difference == 0
    assert len(translation.kan_layers_of(translation.to_kan_(model))) == 8


def test_the_head_of_albert_is_no_gate():
    sizes = {"embedding_size": 16, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = AlbertForMaskedLM(AlbertConfig(vocab_size=64, hidden_act="relu", **sizes)).eval()
    before = model(torch.arange(7)[None]).logits
    assert len(translation.kan_layers_of(translation.to_kan_(model))) == 2
    assert torch.equal(model(torch.arange(7)[None]).logits, before)
