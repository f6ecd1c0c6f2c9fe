"""Raising an exception at any line of the package that a call runs, and comparing everything that the call might have left."""

import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import hf_untangle

PACKAGE = str(Path(hf_untangle.__file__).parent)
DICTIONARIES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_modules", "_parameters")


class Injected(KeyboardInterrupt):
    """An interrupt that a test has made."""


@contextmanager
def traced_lines(at_line: Callable[[FrameType], None]) -> Iterator[None]:
    """Call a function at every line of the package that runs in the block."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            at_line(frame)
        return trace if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def lines_of(call: Callable[[], object]) -> list[tuple[str, int]]:
    """The lines of the package that a call runs, in their order."""
    lines: list[tuple[str, int]] = []
    with traced_lines(lambda frame: lines.append((frame.f_code.co_filename, frame.f_lineno))):
        call()
    return lines


@contextmanager
def interrupted_at(number: int, error: type[BaseException]) -> Iterator[None]:
    """Raise an exception at the given line of those that run in the block."""
    left = [number]

    def at_line(frame: FrameType) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise error(f"{frame.f_code.co_filename}:{frame.f_lineno}")

    with traced_lines(at_line):
        yield


def chosen_lines(lines: list[tuple[str, int]], count: int, seed: int) -> list[int]:
    """Draw line numbers: half of them of all that run, half of each different line once, as loops hide the rest."""
    draws = random.Random(seed)
    different: dict[tuple[str, int], list[int]] = {}
    for number, line in enumerate(lines):
        different.setdefault(line, []).append(number)
    rare = draws.sample(sorted(different), min(count - count // 2, len(different)))
    return [draws.randrange(len(lines)) for _ in range(count // 2)] + [draws.choice(different[line]) for line in rare]


def everything(model: nn.Module) -> dict[str, Any]:
    """All that a call may change in a model and around it, in a form that compares by value."""
    config: Any = getattr(model, "config", None)
    state: dict[str, Any] = {f"weight {name}": value.detach().clone() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        own = vars(module)
        state[f"module {name}"] = (id(module), module.training, id(own.get("forward")), sorted(own))
        for key in DICTIONARIES:
            state[f"{key} of {name}"] = {each: id(value) for each, value in own[key].items()}
    for name, parameter in model.named_parameters():
        state[f"flags of {name}"] = (parameter.requires_grad, id(parameter.grad))
    state["config"] = None if config is None else (config.to_dict(), sorted(vars(config)))
    state["generation"] = id(getattr(model, "generation_config", None))
    # Not Python's own generator, from which beartype draws what it checks.
    state["random"] = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    state["experts"] = sorted(ALL_EXPERTS_FUNCTIONS)
    state["signals"] = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    state["modes"] = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    return state


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Name what is not the same in two states."""
    return [key for key in one.keys() | other.keys() if key not in one or key not in other or not _same(one[key], other[key])]


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
