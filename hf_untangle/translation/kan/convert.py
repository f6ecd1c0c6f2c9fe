"""The feed-forward blocks of a Hugging Face model swapped for KAN layers, and back.

A block `project(activation(expand(x)))` becomes two KAN layers: the straight lines of `expand`, and the edges
w_ji activation(u_i) of `project`, which takes the activation in. Parameters stay the same objects under the
same names, so a checkpoint of the swapped model is a checkpoint of the original model; only its config notes
which blocks were KANs, and nothing but this package reads that note.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.recomputed import check_not_recomputed
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer
from hf_untangle.translation.kan.feed_forward import FeedForward, find_feed_forwards, is_activation
from hf_untangle.translation.linear_weights import checked_dtype, linear_of

NOTE = "kan_feed_forwards"
"""The key of the config that lists the blocks which are KANs, each as [expand, activation, project]."""


@checked_arguments
@all_or_nothing
def to_kan_(model: PreTrainedModel, inputs: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """Make KAN layers of all feed-forward blocks of a model, in place.

    The model runs to find its blocks, and runs again with KAN layers, which must give the same bits. A model
    that was saved with KAN layers is swapped as its config notes, and must give the same bits too if there is
    something to run it on.

    In training, a dropout behind the activation acts in front of it instead. For ReLU and leaky ReLU, which
    commute with scaling, that is the same; for smooth activations it is not.

    Args:
        model: The model.
        inputs: What to run it on, as keyword arguments; a model that reads token ids needs none.

    Returns:
        The same model.

    Raises:
        TranslationError: If there is no such block, or one is gated, or has hooks that a swap would lose, or
            outputs change. The model is then as it was.
        ArchitectureError: If weights are computed again whenever the model runs.
    """
    if kan_layers_of(model):
        raise TranslationError("The blocks of this model are KANs already. Undo that with to_relu_.")
    check_not_recomputed(model)
    blocks = _noted(model)
    if inputs is None and not (blocks and (model.main_input_name != "input_ids" or model.device.type == "meta")):
        inputs = token_ids(model)
    if not blocks and inputs is not None:
        blocks = find_feed_forwards(model, inputs)
    _swap_(model, blocks, check_on=inputs)
    setattr(model.config, NOTE, [list(astuple(block)) for block in blocks])
    return model


@checked_arguments
@all_or_nothing
def to_relu_(model: PreTrainedModel) -> PreTrainedModel:
    """Make ordinary feed-forward blocks of all KAN layers of a model again, in place.

    Args:
        model: A model after `to_kan_`.

    Returns:
        The same model, with the same Parameters and its own activations.

    Raises:
        TranslationError: If the model has no KAN layers from `to_kan_`.
    """
    layers, blocks = kan_layers_of(model), _noted(model)
    if not blocks or not all(block.project in layers for block in blocks):
        raise TranslationError(f"{type(model).__name__} has no KAN layers to undo. Was to_kan_ called on it?")
    for block in blocks:
        _replace(model, model.get_submodule(block.activation), layers[block.project].activation)
    for layer in layers.values():
        _replace(model, layer, linear_of(layer.weight, layer.bias).train(layer.training))
    delattr(model.config, NOTE)
    return model


@checked_arguments
def kan_layers_of(model: nn.Module) -> dict[str, ActivationKANLayer]:
    """List the KAN layers that `to_kan_` made.

    Args:
        model: Any model.

    Returns:
        The layers by their names, of every block the straight lines and the activated edges.
    """
    return {name: module for name, module in model.named_modules() if isinstance(module, ActivationKANLayer)}


def _noted(model: PreTrainedModel) -> list[FeedForward]:
    """The blocks that the config notes as KANs."""
    noted = getattr(model.config, NOTE, [])
    if not isinstance(noted, list) or not all(isinstance(block, list) and len(block) == 3 for block in noted):
        raise TranslationError(f"The config's `{NOTE}` must list blocks as [expand, activation, project], got {noted!r:.200}.")
    return [FeedForward(*map(str, names)) for names in noted]


def _swap_(model: PreTrainedModel, blocks: list[FeedForward], check_on: Mapping[str, Any] | None = None) -> None:
    """Swap blocks for KAN layers; change nothing if anything is wrong."""
    before = None if check_on is None else outputs_on(model, check_on)
    parts = [_parts(model, block) for block in blocks]
    with ExitStack() as undo:
        for _, activation, _ in parts:  # all of them first: blocks may share one activation
            _replace(model, activation, nn.Identity(), undo)
        for _, activation, project in parts:
            _replace(model, project, ActivationKANLayer(project, activation), undo)
        for expand, _, _ in parts:  # unless it is one already, as it projects from another block
            _replace(model, expand, ActivationKANLayer(expand, nn.Identity()), undo)
        if check_on is not None and before is not None:
            after = outputs_on(model, check_on)
            if len(after) != len(before) or not all(map(torch.equal, before, after)):
                raise TranslationError(
                    f"With KAN layers, {type(model).__name__} gives other outputs, so it is left as it was. Does it use a part "
                    "of its feed-forward blocks elsewhere too?"
                )
        undo.pop_all()


def _parts(model: PreTrainedModel, block: FeedForward) -> tuple[nn.Linear, nn.Module, nn.Linear]:
    """The modules of a block."""
    try:
        expand, activation, project = (model.get_submodule(name) for name in astuple(block))
    except AttributeError as reason:
        raise TranslationError(f"The config notes a KAN that this model does not have: {reason}.") from reason
    if not isinstance(expand, nn.Linear) or not isinstance(project, nn.Linear):
        raise TranslationError(f"{block.expand} and {block.project} must be Linear layers. Was the model changed?")
    with evaluation_mode(activation):
        if not is_activation(activation):
            raise TranslationError(f"{block.activation} must be an elementwise activation. Was the model changed?")
    checked_dtype(expand, f"{block.expand}.")
    checked_dtype(project, f"{block.project}.")
    for part in (expand, activation, project):
        if part._forward_hooks or part._forward_pre_hooks or hasattr(part, "_hf_hook"):
            raise TranslationError(f"A part of {block} has hooks, which a swap would lose. Swap before hooking.")
    return expand, activation, project


def _replace(model: nn.Module, old: nn.Module, new: nn.Module, undo: ExitStack | None = None) -> None:
    """Replace one module by another, under all names that it has in the model."""
    for name in [name for name, module in model.named_modules(remove_duplicate=False) if module is old]:
        model.set_submodule(name, new)
        if undo is not None:
            undo.callback(model.set_submodule, name, old)


def token_ids(model: PreTrainedModel) -> dict[str, Tensor]:
    """Make up a few token ids to run a text model on.

    Args:
        model: The model.

    Returns:
        Its keyword arguments.

    Raises:
        TranslationError: If it reads something else than token ids.
    """
    if model.main_input_name != "input_ids":
        raise TranslationError(
            f"{type(model).__name__} reads {model.main_input_name}, which cannot be made up. Pass "
            f"inputs={{'{model.main_input_name}': ...}}."
        )
    ids = {"input_ids": torch.arange(1, 8, device=model.device).reshape(1, 7)}
    return ids | ({"decoder_input_ids": ids["input_ids"]} if model.config.is_encoder_decoder else {})


@torch.no_grad()
def outputs_on(model: PreTrainedModel, inputs: Mapping[str, Any]) -> list[Tensor]:
    """Run a model in evaluation mode.

    Args:
        model: The model.
        inputs: Its keyword arguments.

    Returns:
        All tensors that it gives back, nested ones too.
    """
    with evaluation_mode(model):
        return list(_tensors(model(**inputs)))


def _tensors(output: object) -> Iterable[Tensor]:
    """The tensors in a nested output."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)
