"""How much of what a layer hands on is due to a part of it, on a text."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.data.batch_size import BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.distributed import together
from hf_untangle.errors import StatisticsError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.pruning.unit_sets import UnitSet
from hf_untangle.statistics.watched_passes import run_watched


def influence(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    units: UnitSet,
    everything: NeuronMask,
    blocks: Blocks,
    *,
    batch_size: BatchSize = 8,
    progress: bool = True,
) -> Float[Tensor, " unit"]:
    """Measure by how much the hidden states that leave a layer turn when a part of it is silenced.

    The influence of a unit is the mean over tokens of 1 - cos(h, h'), with h what its layer gives, and h' what it gives for the
    same input without the unit. Without its two blocks, a layer gives what it was given, so that the influence of a whole
    layer is the block influence of ShortGPT (Men et al. 2024, arXiv:2403.03853). Every layer runs again for each of its units.

    Args:
        model: The model, which is left as it was.
        groups: Its neuron groups.
        units: Layers, or parts of a layer each.
        everything: A mask that keeps all neurons.
        blocks: The text.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.

    Returns:
        From 0, no influence, to 2.

    Raises:
        StatisticsError: A layer did not run, or gave something that is not a number.
    """
    sums, counts = torch.zeros(len(units), dtype=torch.float64), torch.zeros(len(units), dtype=torch.float64)
    parts = _by_layer(groups, units, everything)

    @contextmanager
    def watch(batch: Blocks) -> Iterator[None]:
        found = torch.zeros_like(sums)
        with _watched(model, parts, batch.counted.flatten(), found):
            yield
        sums.add_(found)
        counts.add_(float(batch.counted.sum()))

    run_watched(model, blocks.mine(), watch, "influence on", batch_size=batch_size, progress=progress)
    total = torch.stack(together(lambda: torch.stack([sums, counts]))).sum(0)
    means = total[0] / total[1]
    if not means.isfinite().all():
        raise StatisticsError(
            "The influence of every layer must be a number, but some are not: hidden states hold NaN or infinity. Load the "
            "model in float32 or bfloat16 (`dtype=`), and check that its weights are whole."
        )
    return means


Parts = dict[str, list[tuple[int, NeuronMask]]]
"""By path of a layer: the units in it, each with a mask that removes it."""


def _by_layer(groups: tuple[NeuronGroup, ...], units: UnitSet, everything: NeuronMask) -> Parts:
    """The units of each layer."""
    parts: Parts = {}
    for group in groups:
        for number in units.of[group.name].unique().tolist() if group.name in units.of else []:
            inside = parts.setdefault(f"{group.stack}.{group.layer}", [])
            if number not in [known for known, _ in inside]:
                gone = units.without(everything, [number])
                own = {name: kept for name, kept in gone.items() if not kept.all()}
                inside.append((number, gone.with_kept(own)))
    return parts


@contextmanager
def _watched(model: nn.Module, parts: Parts, counted: Bool[Tensor, " token"], sums: Tensor) -> Iterator[None]:
    """Let each layer run again without each of its units, and add up how far its output turned."""
    given: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def remember(path: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Some layers add to their input in place.
        given[path] = tuple(map(_copied, args)), {name: _copied(value) for name, value in kwargs.items()}

    def run_again(path: str, layer: nn.Module, _: Any, output: Any) -> None:
        args, kwargs = given.pop(path)
        states = _states(output)
        for number, mask in parts[path]:
            with masked(model, mask, constants={}):
                other = _states(layer.forward(*map(_copied, args), **{name: _copied(value) for name, value in kwargs.items()}))
            turned = 1 - cosine_similarity(states.float().flatten(0, -2), other.float().flatten(0, -2), dim=-1)
            sums[number] += float(turned[counted.to(turned.device)].double().sum())

    with ExitStack() as hooks:
        for path in parts:
            layer = model.get_submodule(path)
            hooks.callback(layer.register_forward_pre_hook(partial(remember, path), with_kwargs=True).remove)
            hooks.callback(layer.register_forward_hook(partial(run_again, path)).remove)
        yield


def _copied(value: Any) -> Any:
    """A copy of hidden states; anything else is passed on."""
    return value.clone() if isinstance(value, Tensor) and value.is_floating_point() else value


def _states(output: Any) -> Tensor:
    """The hidden states among what a layer gives."""
    return output[0] if isinstance(output, tuple) else output
