"""Compression as an attack: weights on a grid of 16 values, and weights that are pruned after unlearning.

Small dense updates are rounded away ("Catastrophic failure of LLM unlearning via quantization", ICLR 2025; arXiv:2602.13151),
and small suppressing weights are what pruning takes first. Grids and pruning are simulated on the weights of the projections:
no kernel is needed, and every model is treated in the same way.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.projections import is_projection
from hf_untangle.attacks.context import Scene
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.records.attacks import Reading

Matrix = Float[Tensor, "out into"]
LEVEL = 7
"""Largest magnitude of a symmetric 4-bit grid."""
GRIDS: dict[str, int | None] = {"row": None, "groups of 128": 128, "groups of 32": 32}
"""How many weights of a row share a scale; all of them where it is None."""
SHARES = (0.1, 0.3, 0.5)
"""Shares of the weights that pruning takes."""


def int4(scene: Scene) -> Iterator[Reading]:
    """Round the weights of every model to the nearest of 15 values, with a scale per row or per group.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows on each grid.
    """
    for number, (grid, size) in enumerate(GRIDS.items(), start=1):
        for role, seed, model in scene.victims():
            _change_(model, lambda _, weight, size=size: rounded(weight, size))
            yield Reading(model=role, condition=f"INT4, {grid}", at=number, forget=scene.knows(model), seed=seed)


def rounded(weight: Matrix, size: int | None) -> Matrix:
    """Round a matrix to nearest, s * round(w / s) with s = max |w| / 7 over a row or over a group of it.

    Args:
        weight: The matrix.
        size: Weights of a row that share a scale; all of them when None, or where they do not divide the row.

    Returns:
        The rounded matrix. Zero stays zero.
    """
    out, into = weight.shape
    groups = weight.float().view(out, -1, size if size and into % size == 0 else into)
    scale = groups.abs().amax(-1, keepdim=True) / LEVEL
    return ((groups / scale.clamp(min=1e-30)).round() * scale).view(out, into).to(weight.dtype)


def prune(scene: Scene) -> Iterator[Reading]:
    """Prune the smallest weights of every model: by magnitude, and by magnitude times input on the retain corpus (Wanda).

    The second is arXiv:2306.11695. As it is chosen on general text, it takes first what general text does not need.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows after each share of the weights that were not zero is gone.
    """
    text = scene.samples(scene.retain.corpus, 1)[scene.config.seed].first(scene.config.batch_size)
    for number, share in enumerate(SHARES, start=1):
        for role, seed, model in scene.victims():
            _change_(model, lambda _, weight, share=share: pruned(weight, weight.abs(), share))
            yield Reading(model=role, condition=f"{share:.0%} by magnitude", at=number, forget=scene.knows(model), seed=seed)
    for number, share in enumerate(SHARES, start=1 + len(SHARES)):
        for role, seed, model in scene.victims():
            norms = _input_norms(model, text)
            _change_(model, lambda name, weight, n=norms, s=share: pruned(weight, weight.abs() * n.get(name, 1.0), s))
            yield Reading(model=role, condition=f"{share:.0%} by general text", at=number, forget=scene.knows(model), seed=seed)


def pruned(weight: Matrix, importance: Matrix, share: float) -> Matrix:
    """Zero the least important weights of a matrix, among those that are not zero.

    Args:
        weight: The matrix.
        importance: Of each weight.
        share: How many of the weights that are not zero go.

    Returns:
        The pruned matrix.
    """
    left = weight != 0
    count = round(share * int(left.sum()))
    if not count:
        return weight.clone()
    # `quantile` refuses large tensors.
    level = importance[left].float().kthvalue(count).values
    return weight.masked_fill(left & (importance.float() <= level), 0)


@torch.no_grad()
def _change_(model: PreTrainedModel, change: Callable[[str, Tensor], Tensor]) -> None:
    """Change the weight of every projection inside the blocks of a copy."""
    for name, module in model.base_model.named_modules():
        if is_projection(module) and isinstance(module.weight, Tensor) and module.weight.ndim == 2:
            module.weight.copy_(change(name, module.weight.detach()))


def _input_norms(model: PreTrainedModel, text: TokenBlocks) -> dict[str, Tensor]:
    """The root mean square of every input of every projection that is a `Linear`, on some text."""
    squares: dict[str, Tensor] = {}
    handles = []
    for name, module in model.base_model.named_modules():
        if isinstance(module, torch.nn.Linear):

            def keep(_: torch.nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                squares[name] = args[0].float().square().flatten(0, -2).mean(0).sqrt()

            handles.append(module.register_forward_pre_hook(keep))
    try:
        with evaluation_mode(model), torch.inference_mode():
            model.base_model(**text.inputs(model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return squares
