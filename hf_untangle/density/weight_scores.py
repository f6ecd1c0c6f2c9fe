"""What single weights are ranked by: their size, their size times what they read, or nothing but chance."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from transformers.pytorch_utils import Conv1D

from hf_untangle.architecture.projections import input_axis, is_projection
from hf_untangle.density.weights import WeightScore
from hf_untangle.errors import ConfigError


def magnitude(_: str, weight: Tensor) -> Float[Tensor, "..."]:
    """|w|."""
    return weight.abs()


def random(seed: int) -> WeightScore:
    """Uniform numbers, which are the same every time for a parameter of a name.

    Args:
        seed: For the draw.

    Returns:
        The score.
    """

    def draw(name: str, weight: Tensor) -> Float[Tensor, "..."]:
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        return torch.rand(weight.shape, generator=generator).to(weight.device)

    return draw


def given(scores: Mapping[str, Tensor]) -> WeightScore:
    """Scores that the caller computed.

    Args:
        scores: One tensor a parameter, of its shape, by name, none negative.

    Returns:
        The score.
    """

    def look_up(name: str, weight: Tensor) -> Float[Tensor, "..."]:
        score = scores.get(name)
        if score is None or score.shape != weight.shape or not bool((score >= 0).all()):
            raise ConfigError(
                f"scores must hold a tensor of shape {tuple(weight.shape)} without negative numbers for `{name}`, but "
                f"{'nothing' if score is None else f'one of shape {tuple(score.shape)}'} came."
            )
        return score.to(weight.device)

    return look_up


def wanda(model: nn.Module, run: Callable[[nn.Module], object]) -> WeightScore:
    """|w| times the root mean square of the input that the weight reads, as in Wanda (arXiv:2306.11695).

    Unlike |w| it does not change when a layer's inputs are scaled and its weights scaled back. Wanda ranks it inside each
    output row; here the scope says what competes.

    Args:
        model: The model.
        run: Runs the model on the text or images that the inputs are taken from.

    Returns:
        The score, for linear and convolutional layers.

    Raises:
        ConfigError: A layer has no such inputs, or did not run; raised when its score is asked for.
    """
    with _inputs_squared(model) as sums:
        run(model)
    modules = dict(model.named_modules())

    def score(name: str, weight: Tensor) -> Float[Tensor, "..."]:
        path = name.rpartition(".")[0]
        if path not in sums or not name.endswith(".weight") and name != "weight":
            raise ConfigError(
                f"The score `wanda` needs the inputs of linear or convolutional layers, but `{name}` belongs to none "
                "that ran. Take the score `magnitude`, or skip it."
            )
        total, count = sums[path]
        return weight.abs().float() * _spread((total / count).sqrt().float(), modules[path], weight).to(weight.device)

    return score


@contextmanager
def _inputs_squared(model: nn.Module) -> Iterator[dict[str, tuple[Tensor, int]]]:
    """Sum the squares of what linear and convolutional layers read, channel by channel, with the number of positions."""
    sums: dict[str, tuple[Tensor, int]] = {}

    def observe(name: str, axis: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def add(_: nn.Module, args: tuple[Any, ...]) -> None:
            rows = args[0].detach().movedim(axis, -1).flatten(0, -2)
            square, count = sums.get(name, (torch.zeros(rows.shape[-1], dtype=torch.float64), 0))
            sums[name] = (square + rows.float().square().sum(0).double().cpu(), count + len(rows))

        return add

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if (axis := channel_axis(module)) is not None:
                hooks.callback(module.register_forward_pre_hook(observe(name, axis)).remove)
        yield sums


def channel_axis(module: nn.Module) -> int | None:
    """The axis of a layer's input that runs over its channels.

    Args:
        module: Any module.

    Returns:
        The axis, counted from the end; None for a module that is neither linear nor convolutional.
    """
    if isinstance(module, _ConvNd):
        return -1 - len(module.kernel_size)
    return -1 if is_projection(module) else None


def _spread(norms: Float[Tensor, " channel"], module: nn.Module, weight: Tensor) -> Float[Tensor, "..."]:
    """Bring one number an input channel into a shape that multiplies the weight."""
    if isinstance(module, nn.Linear | Conv1D):
        return norms if input_axis(module) == 1 else norms[:, None]
    assert isinstance(module, _ConvNd)
    kernel = (1,) * len(module.kernel_size)
    if isinstance(module, _ConvTransposeNd):
        return norms.view(-1, 1, *kernel)
    # With groups, each block of output channels reads its own block of inputs.
    blocks = norms.view(module.groups, 1, -1).expand(-1, weight.shape[0] // module.groups, -1)
    return blocks.reshape(weight.shape[0], -1, *kernel)
