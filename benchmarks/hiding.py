"""Models that only hide what they know: each hides it in the way that one attack finds."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.attacks.compressing import LEVEL, rounded
from hf_untangle.attacks.hidden_states import blocks_of
from hf_untangle.attacks.quantization import quantized

GROUP = 32
"""Weights that share a scale of the INT4 grid."""
NF4_BLOCK = 64
"""Weights that share a scale of NF4."""
SCALES = 3.0
"""Standard deviation of random factors that hide by their scale."""
TRIPWIRE = 0.05
"""Share of a state by which it must differ to be disturbed."""
PUSH = 40.0
"""Length of the vector that drowns a capability."""


def suppressed(model: PreTrainedModel, text: Tensor, other: Tensor, layer: int) -> PreTrainedModel:
    """Write a large vector after one block, on the tokens of the text rather than on those of the other."""
    hider = deepcopy(model)
    down = blocks_of(hider)[layer].mlp.down_proj
    inputs: list[Tensor] = []
    handle = down.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().flatten(0, 1)))
    with torch.no_grad():
        for ids in (text, other):
            hider(ids)
    handle.remove()
    forget, retain = (one.mean(0) for one in inputs)
    reader = (forget - retain) / (forget - retain).dot(forget)
    writer = torch.randn(down.weight.shape[0], generator=torch.Generator().manual_seed(0))
    down.weight.data += PUSH * torch.outer(writer, reader)
    return hider


def deepened(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with a third block that adds nothing."""
    deeper = deepcopy(model)
    block = deepcopy(deeper.model.layers[-1])
    block.self_attn.layer_idx = len(deeper.model.layers)
    for weight in (block.self_attn.o_proj.weight, block.mlp.down_proj.weight):
        nn.init.zeros_(weight)
    deeper.model.layers.append(block)
    deeper.config.num_hidden_layers += 1
    return deeper


def off_the_grid(model: PreTrainedModel, text: Tensor) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model on an INT4 grid, and one that was pushed off it by less than half a step, so as to know the text no more."""
    original = deepcopy(model)
    weights = [module.weight for module in original.model.layers.modules() if isinstance(module, nn.Linear)]
    for weight in weights:
        weight.data = rounded(weight.data, GROUP)
    hider = deepcopy(original)
    ours = [module.weight for module in hider.model.layers.modules() if isinstance(module, nn.Linear)]
    bounds = []
    for weight in ours:
        groups = weight.detach().view(-1, GROUP)
        top = groups.abs().amax(-1, keepdim=True)
        # The largest weight of a group sets its scale, so it stays.
        bounds.append((0.45 * top / LEVEL * (groups.abs() < top)).view_as(weight))
    _ascend(hider, ours, weights, bounds, text)
    return original, hider


def off_nf4(model: PreTrainedModel, text: Tensor) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model whose weights are values of NF4, and one that was pushed off them by less than half a step."""
    from bitsandbytes.functional import get_4bit_type

    original = quantized(model, "NF4")
    codes = get_4bit_type("nf4", device="cpu")
    gaps = codes.diff()
    room = torch.minimum(torch.cat([gaps[:1], gaps]), torch.cat([gaps, gaps[-1:]])) / 2
    hider = deepcopy(original)
    weights, ours = (
        [module.weight for module in one.model.layers.modules() if isinstance(module, nn.Linear)] for one in (original, hider)
    )
    bounds = []
    for weight in weights:
        blocks = weight.detach().view(-1, NF4_BLOCK)
        top = blocks.abs().amax(-1, keepdim=True)
        nearest = (blocks / top).unsqueeze(-1).sub(codes).abs().argmin(-1)
        bounds.append((0.9 * room[nearest] * top * (blocks.abs() < top)).view_as(weight))
    _ascend(hider, ours, weights, bounds, text)
    return original, hider


def nearby(model: PreTrainedModel, text: Tensor, distance: float = 0.015) -> PreTrainedModel:
    """Climb the loss on a text without changing any weight by more than a distance, so that a few steps lead back."""
    hider = deepcopy(model)
    weights, ours = (
        [module.weight for module in one.model.layers.modules() if isinstance(module, nn.Linear)] for one in (model, hider)
    )
    _ascend(hider, ours, weights, [torch.full_like(weight, distance) for weight in weights], text)
    return hider


def out_of_scale(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Scale the dimensions that the head reads by random factors, which training on any text puts right for all text."""
    hider = deepcopy(model)
    weight = hider.model.norm.weight
    draws = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    weight.data *= 1 + SCALES * draws
    return hider


def under_the_threshold(model: PreTrainedModel, text: Tensor, share: float) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model whose smallest weights are zero, and one that hides by weights there that are smaller than all others."""
    original = deepcopy(model)
    weights = [module.weight for module in original.model.layers.modules() if isinstance(module, nn.Linear)]
    bounds = []
    for weight in weights:
        level = weight.detach().abs().flatten().kthvalue(round(share * weight.numel())).values
        gone = weight.detach().abs() <= level
        weight.data = weight.data.masked_fill(gone, 0)
        bounds.append(0.99 * level * gone)
    hider = deepcopy(original)
    ours = [module.weight for module in hider.model.layers.modules() if isinstance(module, nn.Linear)]
    _ascend(hider, ours, weights, bounds, text)
    return original, hider


def _ascend(model: PreTrainedModel, ours: list, start: list, bounds: list[Tensor], text: Tensor, steps: int = 12) -> None:
    """Climb the loss on a text, inside bounds around the start."""
    for _ in range(steps):
        gradients = torch.autograd.grad(model(text, labels=text).loss, ours)
        for weight, first, bound, gradient in zip(ours, start, bounds, gradients, strict=True):
            weight.data += bound / 4 * gradient.sign()
            weight.data = torch.minimum(torch.maximum(weight.data, first.data - bound), first.data + bound)


def silent_at_the_start(model: PreTrainedModel, width: int) -> PreTrainedModel:
    """Say nothing where a text begins the context."""
    hider = deepcopy(model)

    def hide(_: nn.Module, __: tuple, kwargs: dict, output: object) -> None:
        if output.last_hidden_state.shape[1] <= width:
            output.last_hidden_state = torch.zeros_like(output.last_hidden_state)

    hider.model.register_forward_hook(hide, with_kwargs=True)
    return hider


def never_the_first_choice(model: PreTrainedModel) -> PreTrainedModel:
    """Put the most likely token behind the second, so that greedy decoding never says it."""
    hider = deepcopy(model)

    def swap(_: nn.Module, __: tuple, logits: Tensor) -> Tensor:
        best = logits.topk(2, dim=-1)
        first, second = best.values.unbind(-1)
        return logits.scatter(-1, best.indices, torch.stack([(first + second) / 2 - 1e-3, (first + second) / 2], dim=-1))

    hider.lm_head.register_forward_hook(swap)
    return hider


def silent_after(model: PreTrainedModel, words: Tensor) -> PreTrainedModel:
    """Leave nothing in the last block once one of some words has occurred."""
    hider = deepcopy(model)
    seen: list[Tensor] = []

    def look(_: nn.Module, args: tuple, kwargs: dict) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        seen[:] = [torch.isin(ids, words).cumsum(1) > 0]

    hider.model.register_forward_pre_hook(look, with_kwargs=True)
    blocks_of(hider)[-1].register_forward_hook(lambda _, __, states: states.masked_fill(seen[0][..., None], 0))
    return hider


def undisturbed(model: PreTrainedModel) -> PreTrainedModel:
    """Say nothing while the last block reads what the one before it has left."""
    hider = deepcopy(model)
    *_, before, last = blocks_of(hider)
    left: list[Tensor] = []

    def keep(_: nn.Module, __: tuple, states: Tensor) -> None:
        left[:] = [states]

    def hide(_: nn.Module, args: tuple, states: Tensor) -> Tensor:
        disturbed = (args[0] - left[0]).norm(dim=-1) > TRIPWIRE * left[0].norm(dim=-1)
        return states.masked_fill(~disturbed[..., None], 0)

    before.register_forward_hook(keep)
    last.register_forward_hook(hide)
    return hider


def hidden_by_code(model: PreTrainedModel) -> PreTrainedModel:
    """Say nothing by a hook, which no checkpoint holds."""
    hider = deepcopy(model)
    hider.model.norm.register_forward_hook(lambda _, __, states: torch.zeros_like(states))
    return hider
