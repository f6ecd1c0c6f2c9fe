"""Several processes that each read their share of the blocks, and add up what they found once, at the end.

Processes come from `accelerate launch`, `torchrun` or whatever has set up `torch.distributed`; without one everything here is
free. What comes out of a sum is the same in every process, so that all of them take the same decisions from it.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, distributed

from hf_untangle.errors import ProcessError

Result = TypeVar("Result")


def place() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def is_main() -> bool:
    """Tell whether this is the process that writes and shows progress."""
    return place()[0] == 0


def join() -> None:
    """Take a place among the processes that a launcher has started; nothing when there is no launcher."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and place()[1] == 1:
        from accelerate import PartialState

        PartialState()


def own_device() -> str | None:
    """The device that a launcher meant for this process; None when there is one process, or no choice of devices."""
    if place()[1] == 1:
        return None
    from accelerate import PartialState

    device = str(PartialState().device)
    return None if device == "cpu" else device


def together(work: Callable[[], Result]) -> list[Result]:
    """Run `work` on every rank and all-gather the results.

    Args:
        work: What this process does. What it returns is sent to all others, so it is small and on the CPU.

    Returns:
        One result a process, in their order, the same in all of them.

    Raises:
        ProcessError: Another process failed. The one that did raises its own error.
    """
    _, count = place()
    if count == 1:
        return [work()]
    found: Any = None
    failure: Exception | None = None
    try:
        found = work()
    except Exception as error:  # Everything, as the others are waiting for this process.
        failure = error
    everyone: list[Any] = [None] * count
    distributed.all_gather_object(everyone, (found, None if failure is None else f"{type(failure).__name__}: {failure}"))
    if failure is not None:
        raise failure
    for other, (_, message) in enumerate(everyone):
        if message is not None:
            raise ProcessError(f"All {count} processes must finish, but process {other} failed, so all end: {message}")
    return [one for one, _ in everyone]


def sum_(tensor: Tensor) -> None:
    """Add a tensor up over all processes, which all must do in the same order.

    Args:
        tensor: Of the same shape in all of them, changed in place to their sum.
    """
    if place()[1] > 1:
        distributed.all_reduce(tensor)


def in_main(work: Callable[[], object]) -> None:
    """Do some work in the main process alone, such as writing, while the others wait.

    Args:
        work: What the main process does.

    Raises:
        ProcessError: It failed there.
    """

    def only_there() -> None:
        if is_main():
            work()

    together(only_there)
