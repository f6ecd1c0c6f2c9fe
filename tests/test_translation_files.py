"""KANs and multilayer perceptrons come back from files as they went in; what is no network is refused by name."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer
from hf_untangle.translation.kan.kan_files import ACTIVATIONS, holds_kan, load_kan, save_kan
from hf_untangle.translation.kan.piecewise_linear_layer import random_kan_layer
from hf_untangle.translation.kan.relu_to_kan import relu_to_kan
from hf_untangle.translation.mlp_files import load_mlp, save_mlp

SLOPES = {"negative_slope": 0.3, "lower": 0.1, "upper": 0.4}
SETTINGS = {"min_val": -0.5, "max_val": 2.0, "lambd": 0.7, "threshold": 0.25, "value": 0.25} | SLOPES
X = torch.linspace(-4, 4, 60).reshape(20, 3)


def mlp(activation: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 12), activation or nn.ReLU(), nn.Linear(12, 2, bias=False))


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda kind: kind.__name__)
def test_a_kan_comes_back_from_its_file_to_the_last_bit(tmp_path, kind):
    kan = relu_to_kan(mlp(kind(**{name: SETTINGS[name] for name in ACTIVATIONS[kind]})).eval())
    save_kan(kan, tmp_path / "kan.safetensors")
    assert torch.equal(load_kan(tmp_path / "kan.safetensors")(X), kan(X))


def test_piecewise_linear_layers_come_back_too(tmp_path):
    kan = nn.Sequential(random_kan_layer(3, 4, torch.linspace(-2, 2, 5)), random_kan_layer(4, 1, torch.linspace(-1, 1, 2)))
    save_kan(kan, tmp_path / "kan.safetensors")
    back = load_kan(tmp_path / "kan.safetensors")
    assert torch.equal(back(X), kan(X)) and torch.equal(back[0].knots, kan[0].knots)


def test_a_file_says_whether_it_holds_a_kan(tmp_path):
    save_kan(relu_to_kan(mlp()), tmp_path / "kan.safetensors")
    save_mlp(mlp(), tmp_path / "mlp.safetensors")
    torch.save(mlp(), tmp_path / "mlp.pt")
    assert [holds_kan(tmp_path / name) for name in ("kan.safetensors", "mlp.safetensors", "mlp.pt")] == [True, False, False]
    with pytest.raises(TranslationError, match="must hold a KAN"):
        load_kan(tmp_path / "mlp.safetensors")


def test_an_activation_that_a_file_cannot_name_is_refused(tmp_path):
    with pytest.raises(TranslationError, match="edges of this KAN are scaled GELUs"):
        save_kan(ActivationKANLayer(nn.Linear(2, 2), nn.GELU()), tmp_path / "kan.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_perceptron_comes_back_from_every_kind_of_file(tmp_path):
    save_mlp(mlp(), tmp_path / "a.safetensors")
    torch.save(mlp().state_dict(), tmp_path / "a.pt")
    torch.save(mlp(), tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pt", "a.pth"):
        assert torch.equal(load_mlp(tmp_path / name)(X), mlp()(X))


def test_an_object_keeps_its_activations(tmp_path):
    torch.save(mlp(nn.LeakyReLU(0.2)), tmp_path / "a.pt")
    assert torch.equal(load_mlp(tmp_path / "a.pt")(X), mlp(nn.LeakyReLU(0.2))(X))


def test_layers_are_ordered_by_their_numbers(tmp_path):
    torch.manual_seed(0)
    layers = [nn.Linear(2, 2) for _ in range(12)]
    save_file(
        {f"layers.{i}.{k}": v for i, layer in enumerate(layers) for k, v in layer.state_dict().items()},
        tmp_path / "a.safetensors",
    )
    read = [module for module in load_mlp(tmp_path / "a.safetensors") if isinstance(module, nn.Linear)]
    assert all(torch.equal(found.weight, made.weight) for found, made in zip(read, layers, strict=True))


class Evil:
    def __reduce__(self):
        return print, ("code of the file's own",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"0.weight": torch.zeros(3, 2), "2.weight": torch.zeros(1, 4)},
            "`0.weight`, which puts out 3 numbers, before `2.weight`, which reads 4",
        ),
        ({"conv.weight": torch.zeros(3, 2, 3, 3)}, "got `conv.weight`, which is no weight"),
        ({"0.weight": torch.zeros(3, 2), "1.running_mean": torch.zeros(3)}, "got `1.running_mean`, which is no weight"),
        ({}, "got no weight matrix"),
        ([1, 2], "must hold a state dict .*, got a list"),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()), "cannot be read"),
        (Evil(), "cannot be read"),
    ],
)
def test_what_is_no_perceptron_is_refused(tmp_path, capsys, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(TranslationError, match=message):
        load_mlp(tmp_path / "a.pt")
    assert not capsys.readouterr().out


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_text("no tensors")
    (tmp_path / "a.pt").write_bytes(pickle.dumps([1], 2)[:-2])
    for name in ("a.safetensors", "a.pt", "missing.pt"):
        with pytest.raises(TranslationError, match="must hold a state dict of a multilayer perceptron"):
            load_mlp(tmp_path / name)
