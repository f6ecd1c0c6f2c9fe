"""The difference of the weights as an attack: is what was taken out readable from W_u - W_0, and does writing to it help?

The leading singular vectors of a weight difference name what an edit was about, without any data (arXiv:2508.00161): those on
the side of the outputs are the directions of the residual stream that the edit has changed.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.projections import matrix_of
from hf_untangle.attacks.context import Scene
from hf_untangle.attacks.hidden_states import blocks_of, chosen_layers, rewritten, states_of
from hf_untangle.records.attacks import Reading, Who

DIRECTIONS = 4
"""Singular vectors of each layer that are looked at."""
NEGLIGIBLE = 1e-9
"""Singular values below this share of the norm of the weights are rounding."""
Basis = Float[Tensor, "hidden direction"]


def weight_difference(scene: Scene) -> Iterator[Reading | str]:
    """Take the leading directions of the weight difference out of the residual stream, or put the original's values there.

    Of every chosen layer, U holds the left singular vectors of W - W_0 over all projections that write to the residual stream.
    Every later state h becomes h - U U'h ("without"), or the states that the layer leaves become h - U U'h + U m ("steered"),
    where m is the mean of U'h of the original on the train part of the forget corpus. The original differs from itself in
    nothing.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows, by layer and way, and how well forget text is told from retain text along the first direction.
    """
    layers, size = chosen_layers(scene.original, last=True), scene.config.batch_size
    forget, retain = (
        states_of(scene.original, scene.samples(one.corpus, scene.config.samples)[scene.config.seed], layers, size)
        for one in (scene.forget, scene.retain)
    )
    told: dict[Who, tuple[float, int]] = {}
    for role, seed, model in scene.victims():
        for number, layer in enumerate(layers):
            basis = written_directions(scene, model, layer)
            if basis.shape[1]:
                first = basis[:, 0].to(forget[layer])
                found = auc(forget[layer] @ first, retain[layer] @ first)
                told[role] = max(told.get(role, (0.0, 0)), (max(found, 1 - found), layer + 1))
            after = list(range(layer, len(blocks_of(model))))
            mean = forget[layer].mean(0)
            for way, where, change in (("without", after, _without(basis)), ("steered", [layer], _steered(basis, mean))):
                with rewritten(model, where, lambda _, states, change=change: change(states)):
                    metrics = scene.knows(model)
                at = 1 + number + len(layers) * (way == "steered")
                yield Reading(model=role, condition=f"layer {layer + 1}, {way}", at=at, forget=metrics, seed=seed)
    yield from _in_words(told)


def _in_words(told: dict[Who, tuple[float, int]]) -> list[str]:
    """Say how well forget text is told from retain text by the weight differences."""
    best = [f"{role} {area:.2f} (layer {layer})" for role, (area, layer) in told.items()]
    if not best:
        return []
    return [f"Area under the curve with which the first direction of W - W_0 tells forget from retain text: {'; '.join(best)}."]


def written_directions(scene: Scene, model: PreTrainedModel, layer: int) -> Basis:
    """Find the directions of the residual stream in which a layer writes other than it did: left singular vectors of W - W_0.

    Args:
        scene: The models, text and settings.
        model: A model of the same shape as the original.
        layer: The number of the block.

    Returns:
        At most `DIRECTIONS` orthonormal columns, the strongest first; none where nothing differs.
    """
    names = [group.name for group in scene.groups if group.layer == layer]
    weights = torch.cat([_matrix(scene.original, name) for name in names], 1)
    difference = torch.cat([_matrix(model, name) for name in names], 1) - weights
    energies, directions = torch.linalg.eigh(difference @ difference.T)
    some = energies > NEGLIGIBLE * weights.square().sum()
    return directions[:, some].flip(1)[:, :DIRECTIONS]


def _matrix(model: PreTrainedModel, name: str) -> Float[Tensor, "output input"]:
    """The weights of an output projection, those of all experts side by side."""
    return torch.cat(list(matrix_of(model, name).weight.detach().double()), 1)


def auc(positive: Float[Tensor, " a"], negative: Float[Tensor, " b"]) -> float:
    """Compute the area under the ROC curve of a score: the probability that a positive has a larger one than a negative.

    Args:
        positive: Scores of what is to be told.
        negative: Scores of all else.

    Returns:
        From 0 to 1; ties count a half.
    """
    low = torch.searchsorted(negative.sort().values, positive).double()
    high = torch.searchsorted(negative.sort().values, positive, right=True).double()
    return float((low + high).mean() / 2 / len(negative))


def _without(basis: Basis) -> Callable[[Tensor], Tensor]:
    """Make a function that takes directions out of states."""

    def ablate(states: Tensor) -> Tensor:
        some = basis.to(states)
        return states - (states @ some) @ some.T

    return ablate


def _steered(basis: Basis, mean: Float[Tensor, " hidden"]) -> Callable[[Tensor], Tensor]:
    """Make a function that gives states the mean of others in some directions."""

    def steer(states: Tensor) -> Tensor:
        some = basis.to(states)
        return states - (states @ some) @ some.T + some @ (mean.to(states) @ some)

    return steer
