"""Models that only hide what they know: each hides it in the way that one attack finds."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.attacks.compressing import LEVEL, rounded
from hf_untangle.attacks.hidden_states import blocks_of

GROUP = 32
PUSH = 40.0


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
