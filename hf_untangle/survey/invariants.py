"""The law that a mask obeys on every model, checked on one model."""

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.folders import temporary_folder
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.statistics.accumulators import observed

ROUNDING = 2e-5
"""How far logits may differ in float32, as a share of the largest, when the same sum is taken in another order."""
Inputs = dict[str, Any]


def broken_laws(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], inputs: Inputs) -> list[str]:
    """Check what must hold when about a third of all neurons, in every group at once, is masked and then removed.

    Args:
        model: A model in float32, which loses these neurons.
        groups: Its neuron groups.
        inputs: What to call it with.

    Returns:
        One sentence for each law that does not hold.
    """
    mask = random_mask(groups, model)
    before = outputs(model, inputs)
    with masked(model, mask):
        silenced = outputs(model, inputs)
    watched = _watched(model, groups, inputs)
    after = outputs(model, inputs)
    remove_(model, mask, groups)
    removed = outputs(model, inputs)
    checks: dict[str, Callable[[], bool]] = {
        "outputs must be finite": lambda: bool(torch.isfinite(before).all()),
        "a mask must change the outputs": lambda: not _close(before, silenced, 1e-3),
        "taking the mask off must give the outputs back bit for bit": lambda: torch.equal(before, after),
        "watching must not change the outputs": lambda: _close(before, watched),
        "removal must give the masked outputs": lambda: _close(silenced, removed),
        "removed neurons must not be computed any more": lambda: _are_silent(model, groups, mask, inputs),
        "saving and loading must give every tensor back, and the outputs": lambda: reloads(model, inputs, removed),
        "generation must work with a cache": lambda: _generates(model, inputs),
    }
    return [law for law, holds in checks.items() if not _holds(holds)]


def random_mask(groups: tuple[NeuronGroup, ...], model: PreTrainedModel) -> NeuronMask:
    """Draw a mask that keeps two thirds of the neurons of every group, and takes some whole heads away.

    Args:
        groups: The neuron groups.
        model: The model that they belong to.

    Returns:
        The mask.
    """
    generator = torch.Generator().manual_seed(0)
    kept = {group.name: _kept(group, generator) for group in groups}
    return NeuronMask.keep_all(groups, str(model.name_or_path)).with_kept(kept)


def _kept(group: NeuronGroup, generator: torch.Generator) -> Bool[Tensor, " neuron"]:
    """Draw what one group keeps: under grouped queries a value row goes only with all neurons that read it."""
    kept = torch.rand(group.size, generator=generator) < 2 / 3
    if group.heads and group.producers:
        rows = group.producers[0].rows
        kept &= (torch.rand(int(rows.max()) + 1, generator=generator) < 5 / 6)[rows]
    return kept


@torch.no_grad()
def outputs(model: PreTrainedModel, inputs: Inputs) -> Float[Tensor, "..."]:
    """What a model gives: its logits, or whatever it has instead.

    Args:
        model: The model.
        inputs: What to call it with.

    Returns:
        One tensor.
    """
    found = model(**inputs)
    for name in ("logits", "logits_per_image", "last_hidden_state"):
        if getattr(found, name, None) is not None:
            return found[name]
    return found[0]


def _close(mine: Tensor, other: Tensor, share: float = ROUNDING) -> bool:
    """Tell whether two outputs differ by less than a share of the largest."""
    return bool((mine - other).abs().max() <= share * mine.abs().max())


def _watched(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], inputs: Inputs) -> Tensor:
    """The outputs while all neurons are watched."""
    with observed(model, groups, lambda *_: None):
        return outputs(model, inputs)


def _are_silent(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], mask: NeuronMask, inputs: Inputs) -> bool:
    """Tell whether every removed neuron whose rows no other neuron needs reads zero."""
    loudest: list[float] = []
    quietest: list[float] = []

    def listen(group: NeuronGroup, reading: Any) -> None:
        kept = mask[group.name]
        gone = ~kept & ~group.shares_rows_with_kept(kept)
        loudest.append(float(reading.values.abs().amax()))
        quietest.append(float((reading.values.abs() * gone[reading.neurons]).amax()))

    with observed(model, groups, listen):
        outputs(model, inputs)
    # Some activation functions are not quite zero at zero.
    return max(quietest) <= ROUNDING * max(loudest)


def reloads(model: PreTrainedModel, inputs: Inputs, expected: Tensor) -> bool:
    """Save and load a model, and compare: every tensor bit for bit, and what is computed of them up to rounding.

    Weights that lie in a file begin anywhere in memory, where kernels may add up in another order.

    Args:
        model: The model.
        inputs: What to call it with.
        expected: What it gives.

    Returns:
        Whether both are the same.
    """
    with temporary_folder() as folder:
        model.save_pretrained(folder)
        loaded = type(model).from_pretrained(folder, dtype=torch.float32).eval()
    return same_tensors(model, loaded) and _close(expected, outputs(loaded, inputs))


def same_tensors(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Tell whether two models hold the same tensors, bit for bit.

    Args:
        model: A model.
        other: Another one.

    Returns:
        Whether they do.
    """
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def _generates(model: PreTrainedModel, inputs: Inputs) -> bool:
    """Tell whether three more tokens come out, where a model generates at all."""
    if not isinstance(model, GenerationMixin) or "input_ids" not in inputs or "decoder_input_ids" in inputs:
        return True
    ids = inputs["input_ids"]
    grown = cast(Any, model).generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False, use_cache=True)
    return isinstance(grown, Tensor) and grown.shape[-1] == ids.shape[-1] + 3


def _holds(check: Callable[[], bool]) -> bool:
    """Carry a check out; one that fails on the way does not hold."""
    try:
        return check()
    except Exception:  # Whatever a type of model raises here is a law that it does not keep.
        return False
