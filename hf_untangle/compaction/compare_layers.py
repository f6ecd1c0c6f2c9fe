"""Two models compared layer by layer, each layer of the second on the input that it has in the first."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from hf_untangle.architecture.trace import find_blocks

Notes = dict[str, list[Tensor]]
"""What every layer gave, call by call, by its path."""


@contextmanager
def noted_layers(model: nn.Module) -> Iterator[Notes]:
    """Note what the layers of a model give.

    Args:
        model: The model that runs inside the `with` block.

    Yields:
        The notes, which fill as it runs.
    """
    notes: Notes = {}

    def note(name: str, output: Tensor) -> None:
        notes.setdefault(name, []).append(output)

    with _after_every_layer(model, note):
        yield notes


@contextmanager
def led_layers(model: nn.Module, notes: Notes) -> Iterator[list[float]]:
    """Hand on from every layer what the notes say, and measure how far it is from what the layer gave.

    Args:
        model: The model that runs inside the `with` block, with layers of the same paths.
        notes: Of the other model, on the same inputs.

    Yields:
        One distance a call, which fill in as the model runs.
    """
    distances: list[float] = []
    rest = {name: iter(outputs) for name, outputs in notes.items()}

    def lead(name: str, output: Tensor) -> Tensor:
        expected = next(rest[name])
        distances.append(distance(output, expected))
        return expected

    with _after_every_layer(model, lead):
        yield distances


def distance(output: Tensor, expected: Tensor) -> float:
    """Tell how far an output is from another.

    Args:
        output: Any numbers.
        expected: As many.

    Returns:
        The norm of the difference over the norm of what was expected.
    """
    difference = (output.float() - expected.float()).norm()
    return float(difference / expected.float().norm()) if difference else 0.0


@contextmanager
def _after_every_layer(model: nn.Module, work: Callable[[str, Tensor], Tensor | None]) -> Iterator[None]:
    """Do something with the hidden states that leave a layer, and replace them if something comes back."""

    def hook(name: str, _: nn.Module, __: object, output: Any) -> Any:
        states, rest = (output[0], output[1:]) if isinstance(output, tuple) else (output, None)
        if not isinstance(states, Tensor):
            return None
        changed = work(name, states)
        return changed if changed is None or rest is None else (changed, *rest)

    with ExitStack() as hooks:
        for block in find_blocks(model):
            handle = model.get_submodule(block.name).register_forward_hook(partial(hook, block.name))
            hooks.callback(handle.remove)
        yield
