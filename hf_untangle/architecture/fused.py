"""Modules that run without calling their projections, so that no hook sees a neuron: fused kernels."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn

from hf_untangle.errors import ArchitectureError

Owned = tuple[str, nn.Module, Sequence[nn.Module]]
"""A module by its path, and projections in it of which at least one is called whenever it runs."""


@contextmanager
def fused_refused(owners: Iterable[Owned]) -> Iterator[None]:
    """Refuse, after the `with` block, modules that ran in it but did not call any projection they have.

    Args:
        owners: The modules to watch.

    Yields:
        Nothing.

    Raises:
        ArchitectureError: A module ran without its projections.
    """
    ran: set[str] = set()
    called: set[str] = set()
    with ExitStack() as hooks:
        for name, owner, projections in owners:
            hooks.callback(owner.register_forward_pre_hook(partial(_note, ran, name)).remove)
            for projection in projections:
                hooks.callback(projection.register_forward_pre_hook(partial(_note, called, name)).remove)
        yield
    if fused := sorted(ran - called):
        raise ArchitectureError(
            f"Projections must be called for their neurons to be seen or silenced, but {len(fused)} modules, such as "
            f"`{fused[0]}`, ran without calling theirs, as fused kernels do. Load the model without `use_kernels` or what "
            "else replaces its forward passes."
        )


def _note(names: set[str], name: str, *_: Any) -> None:
    """Note that a module ran."""
    names.add(name)


def owner_of(model: nn.Module, name: str) -> nn.Module:
    """Find the module that a projection is called by.

    Args:
        model: The model.
        name: Path of the projection.

    Returns:
        The module right above it.
    """
    return model.get_submodule(name.rpartition(".")[0])
