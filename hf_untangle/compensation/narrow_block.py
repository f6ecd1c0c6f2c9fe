"""A block whose removed neurons are not there, so that a step of its training costs what the smaller block does."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hf_untangle.architecture.parameters import Index
from hf_untangle.compensation.dense_block import BlockCall
from hf_untangle.compensation.layer_by_layer import first_tensor
from hf_untangle.distributed import together

CLOSE = 1e-4
"""Outputs that differ by less, relative to the largest, are the same: sums of fewer terms round differently."""
Stays = Mapping[str, tuple[int, Int[Tensor, " stays"]]]
"""By parameter of a block: along which of its dimensions it became narrower, and what of that stays."""


@torch.no_grad()
def narrowed(block: nn.Module, zeros: Mapping[str, Sequence[Index]], calls: Sequence[BlockCall]) -> tuple[nn.Module, Stays]:
    """Take removed neurons out of a block, if its forward pass is none the wiser.

    Whether it is, is tried: heads are counted by their number, and a stack of experts has one width. All processes do the same.

    Args:
        block: A block in which whatever belongs to removed neurons alone is zero.
        zeros: By parameter: where those zeros are.
        calls: What it reads; the first one is tried.

    Returns:
        A narrower copy, and what stays in it; the block itself, and nothing, where that would not write the same.
    """
    stays = {name: found for name, places in zeros.items() if (found := _stays(block.get_parameter(name), places))}
    narrow = deepcopy(block)
    for name, (dim, kept) in stays.items():
        owner, _, own = name.rpartition(".")
        whole = block.get_parameter(name)
        smaller = nn.Parameter(whole.index_select(dim, kept.to(whole.device)), requires_grad=whole.requires_grad)
        setattr(narrow.get_submodule(owner), own, smaller)
    same = together(lambda: len(stays) == len(zeros) and (not calls or _same(block, narrow, calls[0])))
    return (narrow, stays) if all(same) else (block, {})


def _stays(parameter: nn.Parameter, places: Sequence[Index]) -> tuple[int, Int[Tensor, " stays"]] | None:
    """What of a parameter is not among some of its rows or columns; None where these are of several dimensions."""
    dims = {dim for index in places for dim, one in enumerate(index) if isinstance(one, Tensor)}
    if len(dims) != 1:
        return None
    dim = dims.pop()
    kept = torch.ones(parameter.shape[dim], dtype=torch.bool)
    for index in places:
        kept[index[dim]] = False
    return dim, kept.nonzero().flatten()


def _same(block: nn.Module, narrow: nn.Module, call: BlockCall) -> bool:
    """Tell whether both blocks write the same."""
    read = call.on(next(block.parameters()).device)
    expected = first_tensor(block(*read.args, **read.kwargs))
    # Whatever a forward pass says of a width that it did not expect, it is another one then.
    with suppress(Exception):
        found = first_tensor(narrow(*read.args, **read.kwargs))
        return found.shape == expected.shape and bool((found - expected).abs().max() <= CLOSE * expected.abs().max())
    return False
