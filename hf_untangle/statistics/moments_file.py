"""Sums that come out of a file: what the record beside them must say, and what sums over tokens cannot be."""

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from hf_untangle.files.records import FileRecord
from hf_untangle.files.regular import shown
from hf_untangle.files.tensors import Content
from hf_untangle.statistics.moments import Moments

OPTIONAL = ("root", "spread")
"""Sums that a file need not have."""
SLACK = 1e-3
"""Relative error that sums in float32 can have."""


class CorpusRecord(BaseModel):
    """What was read: whatever else it says, it counts tokens."""

    model_config = ConfigDict(frozen=True, extra="allow")

    tokens: int = Field(ge=0)
    """How many tokens were counted."""


class StatisticsRecord(FileRecord):
    """What a file of statistics says of them."""

    groups: tuple[str, ...]
    """The names of the groups, in the order in which they run."""
    model: str
    """The model's name or path."""
    revision: str | None
    """The Hub commit that the model was loaded from."""
    dtype: str
    """The dtype in which the model ran."""
    corpora: tuple[CorpusRecord, ...]
    """What was read."""


def read_moments(content: Content[Any], group: str) -> Moments:
    """Read the sums of one group.

    Args:
        content: What is in the file.
        group: The name of the group.

    Returns:
        Its sums.

    Raises:
        UntangleError: A sum is missing, of another size, not finite, or one that no activations have.
    """
    count = content.take(f"{group}/count", (), (torch.int64,))
    total = content.finite(f"{group}/total", (None,))
    sums = {name: content.finite(f"{group}/{name}", (len(total),)) for name in ("absolute", "square", "positive")}
    for name in OPTIONAL:
        if f"{group}/{name}" in content.tensors:
            sums[name] = content.finite(f"{group}/{name}", (len(total),))
    routed = content.take(f"{group}/routed", (None,), (torch.int64,)) if f"{group}/routed" in content.tensors else None
    moments = Moments(count, total, **sums, routed=routed)
    if fault := fault_of(moments):
        raise content.expected.fault(f"{fault} in {shown(group)}")
    return moments


def fault_of(moments: Moments) -> str | None:
    """Find what no activations could have summed up to.

    Args:
        moments: Sums of one group.

    Returns:
        What is wrong with them, in words; None where nothing is.
    """
    routed = moments.routed
    if moments.count < 0:
        return "a negative number of tokens"
    if routed is not None and (len(routed) == 0 or len(moments.total) % len(routed) or _outside(routed, moments.count)):
        return "numbers of routed tokens that cannot be"
    if _outside(moments.positive, moments.computed):
        return "more positive activations than tokens, or fewer than none"
    magnitudes = (moments.absolute, moments.square, moments.root, moments.spread)
    if any((one < 0).any() for one in magnitudes if one is not None):
        return "a negative sum of magnitudes"
    if (moments.total.abs() > moments.absolute * (1 + SLACK) + SLACK).any():
        return "a sum of activations beyond the sum of their magnitudes"
    return None


def _outside(values: Tensor, most: Tensor) -> bool:
    """Whether any value is below 0 or above the most that it can be."""
    return bool(((values < 0) | (values > most)).any())
