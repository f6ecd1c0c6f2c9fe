"""Where unlearning has moved the weights: how far, in how many directions, and what lies on the way.

A small or low-rank update is easy to walk back: distance from the original and the losses on the straight line between both
predict how well unlearning withstands relearning (arXiv:2505.22310).
"""

import math
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.projections import matrix_of
from hf_untangle.attacks.context import Scene
from hf_untangle.records.attacks import PathPoint, WeightSpace
from hf_untangle.records.unlearning import Scores

BETWEEN = (0.25, 0.5, 0.75)
"""Points of the straight line that are measured, as shares of the way to the unlearned model."""
TOP = 8
"""Singular values whose share of the energy is told."""


@torch.no_grad()
def weight_space(scene: Scene, original: Scores, unlearned: Scores) -> WeightSpace:
    """Compare the weights of the unlearned and the original model.

    Args:
        scene: The models, text and settings.
        original: What the original model knows.
        unlearned: What the unlearned model knows.

    Returns:
        Distance, rank and energy of the update, and the losses on the straight line between both models.
    """
    pairs = list(zip(scene.original.parameters(), scene.unlearned.parameters(), strict=True))
    moved = sum(float((after.double() - before.double()).square().sum()) for before, after in pairs)
    norm = sum(float(before.double().square().sum()) for before, _ in pairs)
    changed = sum(int((after != before).sum()) for before, after in pairs)
    ranks, energies, widths = _spectra(scene)
    return WeightSpace(
        relative_distance=math.sqrt(moved / norm),
        changed=changed / scene.original.num_parameters(),
        effective_rank=_mean(ranks, energies),
        width=max(widths, default=0),
        energy_of_top=_mean([top for _, top in energies], energies),
        top=TOP,
        path=_path(scene, {0.0: original, 1.0: unlearned}),
    )


def _spectra(scene: Scene) -> tuple[list[float], list[tuple[float, float]], list[int]]:
    """Of every output projection that changed: its effective rank; its energy, with the share of the top; its width."""
    ranks, energies, widths = [], [], []
    for group in scene.groups:
        for before, after in zip(_matrices(scene.original, group.name), _matrices(scene.unlearned, group.name), strict=True):
            spectrum = _energies(after.double() - before.double())
            total = float(spectrum.sum())
            if total > 0:
                ranks.append(effective_rank(spectrum))
                energies.append((total, float(spectrum[-TOP:].sum()) / total))
                widths.append(len(spectrum))
    return ranks, energies, widths


def _matrices(model: PreTrainedModel, name: str) -> Float[Tensor, "expert output input"]:
    """The weights of an output projection, one matrix per expert."""
    return matrix_of(model, name).weight.detach()


def _energies(matrix: Float[Tensor, "output input"]) -> Float[Tensor, " value"]:
    """The squares of the singular values, the smallest first."""
    out, into = matrix.shape
    return torch.linalg.eigvalsh(matrix @ matrix.T if out <= into else matrix.T @ matrix).clamp(min=0)


def effective_rank(energies: Float[Tensor, " value"]) -> float:
    """Compute the effective rank of a matrix: exp(-sum p log p), where p is the share of each squared singular value.

    Args:
        energies: Squares of singular values, not all zero.

    Returns:
        From 1 to their number (Roy and Vetterli 2007).
    """
    shares = energies / energies.sum()
    return math.exp(-float(torch.special.xlogy(shares, shares).sum()))


def _mean(values: list[float], energies: list[tuple[float, float]]) -> float:
    """The mean over projections, each as much as it has changed; 0 where nothing has."""
    total = sum(energy for energy, _ in energies)
    return sum(value * energy for value, (energy, _) in zip(values, energies, strict=True)) / total if total else 0.0


def _path(scene: Scene, ends: dict[float, Scores]) -> tuple[PathPoint, ...]:
    """Both losses at both ends, and at some points between them."""
    found = dict(ends)
    for share in BETWEEN:
        model = deepcopy(scene.original)
        for one, after in zip(model.parameters(), scene.unlearned.parameters(), strict=True):
            one.lerp_(after, share)
        found[share] = scene.judge(model)
    return tuple(PathPoint(share=share, forget=scores.forget, retain=scores.retain) for share, scores in sorted(found.items()))
