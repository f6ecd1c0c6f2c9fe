"""Multilayer perceptrons in files: a state dict of Linear layers says everything but the activation between them."""

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hf_untangle.errors import TranslationError
from hf_untangle.folders import whole_file
from hf_untangle.translation.weights import linear_of

SAFE_MODULES: list[Any] = [
    *(nn.Sequential, nn.Linear, nn.Flatten, nn.Identity, nn.Dropout),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Softshrink),
]
"""The modules that a file may hold as objects. Others could run code of their own when they are read."""


def save_mlp(network: nn.Sequential, file: str | Path) -> None:
    """Write the state dict of a multilayer perceptron as safetensors, whole or not at all.

    Args:
        network: Linear layers with activations between them.
        file: Where to write.
    """
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(file) as draft:
        save_file(tensors, draft, metadata={"format": "pt"})


def load_mlp(file: str | Path) -> nn.Module:
    """Read a multilayer perceptron from a file.

    A state dict (safetensors, or `torch.save(network.state_dict(), file)`) is read as Linear layers in the order of
    the numbers in their names, with a ReLU between any two of them. A network that was saved as an object
    (`torch.save(network, file)`) keeps its own activations; it may hold `SAFE_MODULES` only.

    Args:
        file: A safetensors file, or a file of torch.save.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        TranslationError: The file cannot be read, or does not hold a chain of Linear layers.
    """
    content = _content(Path(file))
    return (content if isinstance(content, nn.Module) else _chained(content, file)).eval()


def _content(file: Path) -> Any:
    """What is in the file: a module, or something that should be a state dict."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals(SAFE_MODULES):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise TranslationError(
            f"`{file}` must be a state dict of a multilayer perceptron, in safetensors or by torch.save, but it cannot be "
            f"read: {str(error).partition(chr(10))[0]}"
        ) from error


def _chained(state: Any, file: str | Path) -> nn.Sequential:
    """A state dict as Linear layers with ReLUs between them."""
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise TranslationError(
            f"`{file}` must hold a state dict, but it holds a {type(state).__name__}. Save network.state_dict()."
        )
    weights = {name: tensor for name, tensor in state.items() if name.endswith("weight") and tensor.ndim == 2}
    names = sorted(weights, key=_numbers)
    biases = {name.removesuffix("weight") + "bias" for name in names} & state.keys()
    if strangers := sorted(state.keys() - weights.keys() - biases):
        raise TranslationError(
            f"`{file}` must hold the weights and biases of Linear layers alone, but holds `{strangers[0]}` too."
        )
    if not names:
        raise TranslationError(f"`{file}` holds no weight matrix, so there is no network in it.")
    for before, behind in pairwise(names):
        if weights[behind].shape[1] != len(weights[before]):
            raise TranslationError(
                f"Each Linear layer must read what the one before it puts out, but `{before}` puts out "
                f"{len(weights[before])} numbers and `{behind}` reads {weights[behind].shape[1]}."
            )
    layers = [linear_of(weights[name], state.get(name.removesuffix("weight") + "bias")) for name in names]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def _numbers(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts `layers.10` behind `layers.9`."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
