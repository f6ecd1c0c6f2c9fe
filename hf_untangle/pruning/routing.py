"""How much each expert writes for the tokens that are sent to it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.hooks import intercepted
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import matrix_of
from hf_untangle.architecture.routers import routed_groups
from hf_untangle.data.batch_size import BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.distributed import together
from hf_untangle.pruning.unit_sets import UnitSet
from hf_untangle.statistics.watched_passes import run_watched


def routed_norms(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    units: UnitSet,
    blocks: Blocks,
    *,
    batch_size: BatchSize = 8,
    progress: bool = True,
) -> Float[Tensor, " unit"]:
    """Measure what experts write, weighted by their routers.

    The score of an expert is the mean, over the tokens that are sent to it, of g ||f(x)||, with g the weight that the router
    gives it, and f(x) what it writes: the criterion of REAP (Lasby et al. 2025, arXiv:2510.13999).

    Args:
        model: The model, which is left as it was.
        groups: Its neuron groups.
        units: Its experts.
        blocks: The text.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.

    Returns:
        One number per expert; 0 for one that no token is sent to.
    """
    members = [group for group in routed_groups(model, groups) if group.name in units.of]
    sums, counts = torch.zeros(len(units), dtype=torch.float64), torch.zeros(len(units), dtype=torch.float64)

    @contextmanager
    def watch(batch: Blocks) -> Iterator[None]:
        found = torch.zeros(2, len(units), dtype=torch.float64)
        with _watched(model, members, units, batch.counted.flatten(), found):
            yield
        sums.add_(found[0])
        counts.add_(found[1])

    run_watched(model, blocks.mine(), watch, "routing of", batch_size=batch_size, progress=progress)
    total = torch.stack(together(lambda: torch.stack([sums, counts]))).sum(0)
    return total[0] / total[1].clamp_min(1)


@contextmanager
def _watched(
    model: nn.Module, members: list[NeuronGroup], units: UnitSet, counted: Bool[Tensor, " token"], sums: Tensor
) -> Iterator[None]:
    """Add up the norms of what experts write, and how many tokens they are sent."""
    routes: dict[str, tuple[Tensor, Tensor] | None] = {}

    def remember(name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(enumerate(args)) | kwargs
        chosen, weights = given.get("top_k_index", given.get(1)), given.get("top_k_weights", given.get(2))
        # Experts that get their tokens sorted are given inputs which are weighted already.
        routes[name] = None if chosen is None or weights is None else (chosen, weights)

    def add(group: NeuronGroup, first: int, reading: Reading) -> None:
        assert reading.tokens is not None and group.experts is not None
        expert = (reading.neurons.start or 0) // (group.size // group.experts)
        matrix = matrix_of(model, group.name)
        bias = None if matrix.bias is None else matrix.bias[expert]
        norms = nn.functional.linear(reading.values, matrix.weight[expert], bias).float().norm(dim=-1)
        route = routes[group.name]
        if route is not None:
            norms = norms * ((route[0][reading.tokens] == expert) * route[1][reading.tokens]).sum(-1).float()
        here = counted.to(norms.device)[reading.tokens]
        sums[0, first + expert] += float(norms[here].double().sum())
        sums[1, first + expert] += float(here.sum())

    with ExitStack() as hooks:
        for group in members:
            experts = model.get_submodule(group.name.rpartition(".")[0])
            hooks.callback(experts.register_forward_pre_hook(partial(remember, group.name), with_kwargs=True).remove)
        interceptors = {group.name: partial(add, group, int(units.of[group.name][0])) for group in members}
        hooks.enter_context(intercepted(model, interceptors))
        yield
