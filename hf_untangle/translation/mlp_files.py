"""Multilayer perceptrons in files: a state dict of Linear layers says everything but the activation between them."""

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import TranslationError
from hf_untangle.files.pickled import PickledModule, read_pickled, unwrapped
from hf_untangle.files.regular import Expected, shown
from hf_untangle.files.tensors import LARGEST, Content, read_any_tensors
from hf_untangle.folders import whole_file
from hf_untangle.translation.linear_weights import linear_of

SAFE_MODULES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Sequential: (),
    nn.Linear: (),
    nn.Flatten: ("start_dim", "end_dim"),
    nn.Identity: (),
    nn.Dropout: ("p", "inplace"),
    nn.ReLU: ("inplace",),
    nn.ReLU6: (),
    nn.LeakyReLU: ("negative_slope", "inplace"),
    nn.Hardtanh: ("min_val", "max_val", "inplace"),
    nn.Hardsigmoid: (),
    nn.Softshrink: ("lambd",),
}
"""The modules that a file may hold as objects, and the settings that make each anew; others are not read."""
DEPTH = 16
"""Sequentials within Sequentials."""


@checked_arguments
def save_mlp(network: nn.Sequential, file: str | Path) -> None:
    """Write the state dict of a multilayer perceptron as safetensors, whole or not at all.

    Args:
        network: Linear layers with activations between them.
        file: Where to write.
    """
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(file) as draft:
        save_file(tensors, draft, metadata={"format": "pt"})


@checked_arguments
def load_mlp(file: str | Path) -> nn.Module:
    """Read a multilayer perceptron from a file.

    A state dict (safetensors, or `torch.save(network.state_dict(), file)`) is read as Linear layers in the order of
    the numbers in their names, with a ReLU between any two of them. A network that was saved as an object
    (`torch.save(network, file)`) keeps its own activations; it may hold `SAFE_MODULES` only, which are made anew.

    Args:
        file: A safetensors file, or a file of torch.save.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        TranslationError: The file cannot be read, or does not hold a chain of Linear layers.
    """
    expected = Expected(
        Path(file), "a state dict of a multilayer perceptron, in safetensors or by torch.save", TranslationError
    )
    if expected.file.suffix == ".safetensors":
        return _chained(read_any_tensors(expected)[1], expected).eval()
    content = read_pickled(expected, SAFE_MODULES)
    return (_module(content, expected) if isinstance(content, PickledModule) else _chained(content, expected)).eval()


def _module(content: PickledModule, expected: Expected, depth: int = 0) -> nn.Module:
    """A module made anew of what a file says of it."""
    kind = next(known for known in SAFE_MODULES if known.__name__ == content.kind)
    own = vars(content)
    if kind is nn.Linear:
        parameters = unwrapped(own.get("_parameters"))
        return _linear(parameters if isinstance(parameters, dict) else {}, "weight", "bias", expected)
    if kind is nn.Sequential:
        parts = own.get("_modules")
        if depth > DEPTH or not isinstance(parts, dict) or not all(isinstance(one, PickledModule) for one in parts.values()):
            raise expected.fault("a Sequential that is none")
        return nn.Sequential(*(_module(one, expected, depth + 1) for one in parts.values()))
    settings = {name: own[name] for name in SAFE_MODULES[kind] if name in own}
    if not all(isinstance(value, bool | int | float) and abs(value) <= LARGEST for value in settings.values()):
        raise expected.fault(f"settings of {content.kind} that are no numbers of float32")
    try:
        return kind(**settings)
    except (ValueError, TypeError, AssertionError) as error:
        raise expected.fault(f"settings of {content.kind} that cannot be ({error})") from error


def _chained(state: Any, expected: Expected) -> nn.Sequential:
    """A state dict as Linear layers with ReLUs between them."""
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise expected.fault(f"a {type(state).__name__} that is none; save network.state_dict()")
    names = sorted((name for name, tensor in state.items() if name.endswith("weight") and tensor.ndim == 2), key=_numbers)
    biases = {name: name.removesuffix("weight") + "bias" for name in names}
    if strangers := sorted(state.keys() - set(names) - set(biases.values())):
        raise expected.fault(f"{shown(strangers[0])}, which is no weight or bias of a Linear layer")
    if not names:
        raise expected.fault("no weight matrix, so that there is no network in it")
    layers = [_linear(state, name, biases[name], expected) for name in names]
    for (before, left), (behind, right) in pairwise(zip(names, layers, strict=True)):
        if left.out_features != right.in_features:
            raise expected.fault(
                f"{shown(before)}, which puts out {left.out_features} numbers, before {shown(behind)}, which reads "
                f"{right.in_features}"
            )
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def _linear(state: Mapping[str, Any], weight: str, bias: str, expected: Expected) -> nn.Linear:
    """A Linear layer of a weight and a bias that fit each other."""
    content = Content(expected, {name: one for name, one in state.items() if isinstance(one, Tensor)}, None)
    matrix = content.finite(weight, (None, None))
    vector = content.finite(bias, (len(matrix),)) if bias in content.tensors else None
    if vector is not None and vector.dtype != matrix.dtype:
        raise expected.fault(f"{shown(bias)} of another dtype than {shown(weight)}")
    return linear_of(matrix, vector)


def _numbers(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts `layers.10` behind `layers.9`."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [(number % 2 == 1, int(part) if number % 2 else 0, part) for number, part in enumerate(parts)]
