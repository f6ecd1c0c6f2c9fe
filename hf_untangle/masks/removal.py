"""Making a mask permanent: a removed neuron is neither computed nor read any more."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hf_untangle.architecture.biases import add_biases_
from hf_untangle.architecture.commit import commit
from hf_untangle.architecture.inference_mode import check_ordinary
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.offload import home_of
from hf_untangle.architecture.parameters import Edit, Index, read_matrix, write_parameters_
from hf_untangle.architecture.projections import matrix_of, place_of
from hf_untangle.architecture.quantized import check_packing, has_codes
from hf_untangle.architecture.recomputed import check_not_recomputed
from hf_untangle.architecture.sharding import check_whole, comes_and_goes, is_shard
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.errors import MaskError
from hf_untangle.masks.ablation import Constants, Weights
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.models import name_and_revision


def low_rank_factors(model: nn.Module, name: str, which: Literal["lora_A", "lora_B"]) -> list[str]:
    """List one factor of every low-rank adapter on a projection.

    Args:
        model: The model below the adapters.
        name: Path of the projection, or of a parameter that holds one per expert.
        which: The factor A, which reads, or B, which writes.

    Returns:
        The paths of the factors, which are projections themselves; none where there is no adapter.

    Raises:
        MaskError: There is an adapter, and it is no plain LoRA.
    """
    projection = getattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    if not hasattr(projection, "base_layer"):
        return []
    # DoRA divides each row by its norm, and that of a removed row is zero.
    if not hasattr(projection, which) or len(getattr(projection, "lora_magnitude_vector", {})):
        raise MaskError(
            f"Neurons can be removed, and held at zero, under LoRA adapters alone, but `{name}` carries a "
            f"{type(projection).__module__.split('.')[-2]} layer of another form. Use `LoraConfig` without DoRA."
        )
    return [f"{name}.{which}.{adapter}" for adapter in getattr(projection, which)]


EDITABLE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Dtypes whose zeros mean zero; those of quantized weights depend on scales that lie elsewhere."""


@checked_arguments
@all_or_nothing
@torch.no_grad()
def remove_(
    model: nn.Module | ModelName,
    mask: NeuronMask,
    groups: tuple[NeuronGroup, ...],
    *,
    constants: Constants | None = None,
    weights: Weights | None = None,
) -> nn.Module:
    """Zero the weights of every masked-out neuron: the columns that read it, and the rows and biases that compute it.

    The logits are those of the masked model, also where bitsandbytes has quantized its weights: a code of both of its formats
    stands for exactly 0. As both sides are zero, so is the gradient of everything that belonged to the
    neuron, and no fine-tuning can grow it back. The exception is an attention neuron under grouped queries whose value row
    serves a kept query head too: its column is zero, but its row stays (`NeuronGroup.shares_rows_with_kept` tells which).

    With `constants`, what each removed neuron would add at a constant goes into the bias of the output projection, as FLAP
    compensates for pruning (arXiv:2312.11983). A neuron that never changes is folded into the bias exactly that way. Where
    there is no bias, one is made if the model's configuration knows it (`mlp_bias`, `attention_bias`).

    Args:
        model: The model, changed in place. All of it is checked before any of it is written to. Under LoRA adapters of peft,
            what they add to removed neurons goes too, and they stay. A name or path is loaded.
        mask: Which neurons stay.
        groups: The neuron groups of this model.
        constants: The value at which each removed neuron is held, by group; zero when None. A mask of a run with another
            ablation than zero must be given them, or `{}`.
        weights: New weights of output projections, as `compensation.least_squares` finds them; their own when None.

    Returns:
        The same model.

    Raises:
        MaskError: The mask is not this model's, or needs constants, or its weights cannot be edited.
        ArchitectureError: A bias is needed, and cannot be there.
    """
    model = opened(model)
    below = model_below(model)
    mask.check_fits(groups, *name_and_revision(below))
    mask.check_constants(constants)
    check_removable(below, groups)
    with commit():
        if constants:
            gone = {name: ~kept for name, kept in mask.items() if not kept.all()}
            add_biases_(below, list(gone))
            write_parameters_(below, [_shifted_bias(below, name, removed, constants[name]) for name, removed in gone.items()])
        # The weights that shift biases are those from before.
        new = {place_of(below, name).weight: weight for name, weight in (weights or {}).items()}
        write_parameters_(below, (Edit(name, (slice(None),), weight) for name, weight in new.items()))
        write_parameters_(below, (Edit(name, index) for name, index in zeros_of(below, mask, groups)))
        return model


@checked_arguments
def zeros_of(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> Iterator[tuple[str, Index]]:
    """Name what removal sets to zero: in the weights, and in low-rank adapters on them.

    LoRA (arXiv:2106.09685) adds B A to a weight, with A of shape [rank, input] and B of shape [output, rank]. A column of the
    sum is zero when that column of A is, and a row when that row of B is, whatever the other factor holds; so these belong
    to a removed neuron too.

    Args:
        model: The model below its adapters, if it has any; its weights are not looked at.
        mask: Which neurons stay.
        groups: The neuron groups of this model.

    Yields:
        The name of a parameter, and the index of some of its rows or columns.

    Raises:
        MaskError: There is an adapter of another kind than LoRA.
    """
    by_name = {group.name: group for group in groups}
    for name, kept in mask.items():
        if kept.all():
            continue
        gone = (~kept).nonzero().flatten()
        yield _columns(model, name, gone)
        for factor in low_rank_factors(model, name, "lora_A"):
            yield _columns(model, factor, gone)
        for producer in by_name[name].producers:
            rows = producer.rows_needed_by_none(kept)
            yield from _rows(model, producer.name, rows)
            for factor in low_rank_factors(model, producer.name, "lora_B"):
                yield from _rows(model, factor, rows)


def check_removable(model: nn.Module, groups: tuple[NeuronGroup, ...]) -> None:
    """Refuse a model whose neurons can be masked, but not removed.

    Args:
        model: The model.
        groups: Its neuron groups.

    Raises:
        MaskError: Some of the weights are quantized in a format that cannot be edited exactly, or not loaded.
        ArchitectureError: DeepSpeed ZeRO-3 has taken them apart, or some are computed again whenever the model runs.
    """
    check_whole(model)
    check_not_recomputed(model)
    check_ordinary(model)
    for group in groups:
        for path in (group.name, *(producer.name for producer in group.producers)):
            _check_editable(model, path)


def check_in_memory(model: nn.Module, groups: tuple[NeuronGroup, ...]) -> None:
    """Refuse a model whose weights cannot be worked on as they are: trained, rotated, multiplied or cut.

    Args:
        model: The model.
        groups: Its neuron groups.

    Raises:
        MaskError: Some of the weights are quantized, not loaded, offloaded or sharded.
    """
    check_removable(model, groups)
    if any(map(has_codes, model.parameters())):
        raise MaskError(
            "All weights must be in floating point for this, but some of them are quantized. Load the model in full precision, "
            "or cut its checkpoint with `compact_folder`."
        )
    if comes_and_goes(model):
        raise MaskError(
            "All weights must be in memory for this, but some of them are offloaded or sharded. Load the model whole; to make "
            "a checkpoint smaller, `compact_folder` needs the memory of a shard or two."
        )


def removed_parameters(model: nn.Module, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> int:
    """Count the weights and biases that `remove_` sets to zero.

    Args:
        model: The model.
        mask: Which neurons stay.
        groups: The neuron groups of the model.

    Returns:
        The number of single parameters.
    """
    count = 0
    by_name = {group.name: group for group in groups}
    for name, kept in mask.items():
        count += int((~kept).sum()) * place_of(model, name).shape[1]
        for producer in by_name[name].producers:
            place = place_of(model, producer.name)
            row = place.shape[2] + (place.bias is not None)
            count += len(producer.rows_needed_by_none(kept)) * row
    return count


def _check_editable(model: nn.Module, name: str) -> None:
    """Refuse weights that are quantized or not loaded."""
    weight = matrix_of(model, name).parameter
    if has_codes(weight):
        check_packing(model.get_submodule(name))
    elif is_shard(weight):
        return
    elif weight.dtype not in EDITABLE or type(weight) not in (Tensor, nn.Parameter) or hasattr(weight, "quant_state"):
        raise MaskError(
            f"The weights of `{name}` must be in floating point to be removed, but they are quantized. Try the mask with "
            "`masked(model, mask)`, save it, and remove it from the full-precision checkpoint with `remove_folder`. In place "
            "that is exact for 8 and 4 bits of bitsandbytes alone."
        )
    if weight.is_meta and home_of(model, place_of(model, name).weight) is None:
        raise MaskError(
            f"The weights of `{name}` must be loaded to be removed, but they are on the meta device, and were not offloaded by "
            "accelerate. Load the model with `from_pretrained`."
        )


def _shifted_bias(model: nn.Module, name: str, removed: Bool[Tensor, " neuron"], values: Float[Tensor, " neuron"]) -> Edit:
    """The bias with what some neurons contribute when each is held at its value."""
    place, matrix = place_of(model, name), read_matrix(model, name)
    assert matrix.bias is not None and place.bias is not None
    experts, _, width = matrix.weight.shape
    held = torch.where(removed, values, 0).view(experts, width, 1).to(matrix.weight.device).double()
    shifted = matrix.bias.double() + (matrix.weight.double() @ held)[..., 0]
    return Edit(place.bias, (slice(None),), shifted if place.is_stack else shifted[0])


def _columns(model: nn.Module, name: str, neurons: Int[Tensor, " neuron"]) -> tuple[str, Index]:
    """The weights that read some neurons."""
    place = place_of(model, name)
    expert, column = _unravel(neurons, place.shape[2])
    return place.weight, (
        *((expert,) if place.is_stack else ()),
        *((column,) if place.is_transposed else (slice(None), column)),
    )


def _rows(model: nn.Module, name: str, rows: Int[Tensor, " row"]) -> Iterator[tuple[str, Index]]:
    """The weights and biases that compute some outputs."""
    place = place_of(model, name)
    expert, row = _unravel(rows, place.shape[1])
    experts = (expert,) if place.is_stack else ()
    yield place.weight, (*experts, *((slice(None), row) if place.is_transposed else (row,)))
    if place.bias is not None:
        yield place.bias, (*experts, row)


def _unravel(numbers: Int[Tensor, " n"], width: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Split numbers that count through all experts into the expert and the number in it."""
    return numbers // width, numbers % width
