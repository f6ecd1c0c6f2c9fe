"""Compaction and removal from one checkpoint folder to another, shard by shard, without ever loading the model.

Where the neurons are is found on a hollow twin, made from the configuration in the folder, and so is whether the smaller model
computes what the masked one does. Of the weights, one shard at a time is in memory.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.meta_models import hollow, shapes_of, skeleton
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import place_of
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.compaction.assemble import assemble_lazily
from hf_untangle.compaction.edits import Edits, edits_of, reads
from hf_untangle.compaction.parts import Part
from hf_untangle.compaction.shards import rewrite_shard
from hf_untangle.compaction.source_folder import INDEX, Checkpoint, open_checkpoint, parts_in
from hf_untangle.compaction.target_widths import Layout, mask_of_all
from hf_untangle.compaction.verify import compact_verified
from hf_untangle.display import fields_repr
from hf_untangle.errors import ArchitectureError, CheckpointError, CompactionError, UntangleError
from hf_untangle.files.json_text import read_json
from hf_untangle.files.names import own_files, public_name
from hf_untangle.files.regular import Expected, one_line
from hf_untangle.folders import MARKER, check_replaceable, recover, undisturbed, whole_folder
from hf_untangle.interrupts import sigterm_as_interrupt
from hf_untangle.masks.mask import NeuronMask

CARRIED = (
    *("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
    *("*.model", "*.tiktoken", "chat_template*", "*processor_config.json", "LICENSE*", "NOTICE*"),
)
"""Files beside the weights that belong to the model whatever its width, as patterns."""
LAYER = re.compile(r".*?\.\d+(?=\.)")
"""The outermost numbered module that a parameter is in."""


@checked_calls
@dataclass(frozen=True)
class FolderRecord:
    """What was done to a folder."""

    source: str
    removed: str
    """What the mask removes, in words."""
    layout: str | None
    """None where the shapes stayed."""
    parameters_before: int
    parameters_after: int
    """Numbers in the tensors of the files; tied ones once."""
    needs_package: bool
    """Whether layers differ in width, so that `hf_untangle` must be imported before the checkpoint is loaded."""
    left: dict[str, str]
    """By pattern of groups: why what was removed there still has its place, as zeros."""
    __repr__ = fields_repr


@checked_arguments
def compact_folder(
    source: str | Path,
    target: str | Path,
    mask: NeuronMask | None = None,
    *,
    layout: Layout = "ragged",
    round_to: int | None = None,
    complete: Callable[[Path, FolderRecord], object] | None = None,
) -> FolderRecord:
    """Write a smaller checkpoint, as `compact` and `save_pretrained` would, in the memory of a shard or two.

    Args:
        source: A folder with a checkpoint in safetensors, in full precision. It is only read.
        target: The folder to write: all of it, or nothing.
        mask: Which neurons stay. When None, those that are removed are read off the weights.
        layout: Whether layers may differ in width, see `compact`.
        round_to: FFN widths are rounded up to a multiple of this.
        complete: Called with the folder before it takes its name, and with what was done, to add more files.

    Returns:
        What was done; it lies in the target as `untangle.json` too.

    Raises:
        CheckpointError: Something is missing in the source, or a tensor in it does not belong to the model.
        CompactionError: The configuration of the model has no setting for such widths, the layout is impossible, or nothing
            would become smaller.
        MaskError: The mask was made for another model.
        OutputError: The target is not ours to replace, or cannot be written.
    """
    with _between(source, target):
        located = _locate(open_checkpoint(source))
        mask = _removed_in(located) if mask is None else mask_of_all(mask, located.groups, str(source))
        _, plan, edits = compact_verified(located.twin, located.groups, mask, assemble_lazily, layout=layout, round_to=round_to)
        share = skeleton(type(located.twin), plan.config).num_parameters() / located.twin.num_parameters()
        _check_smaller(share < 1, source, mask, layout, plan.left)
        check_replaceable(target, source=source, needs=int(located.checkpoint.size * share))
        return _write(located, target, mask, edits, plan.config, layout, plan.left, complete)


def _check_smaller(is_smaller: bool, source: str | Path, mask: NeuronMask, layout: Layout, left: Mapping[str, str]) -> None:
    """Refuse to write a copy of the source: say why nothing can be taken out of it."""
    if is_smaller:
        return
    if not mask.removed():
        why = "it has no removed neurons. Prune it or unlearn first, or pass a mask"
    elif layout == "uniform":
        why = (
            "in the uniform layout every layer is as wide as the widest, from which too little was removed. Try the layout "
            "`ragged`, or a smaller `round_to`"
        )
    else:
        why = "; ".join(f"removed neurons of {pattern} keep their place: {reason}" for pattern, reason in left.items())
        why = why or "too little was removed for the widths that `round_to` and whole heads allow"
    raise CompactionError(f"Compaction must make `{source}` smaller, but {why}. Nothing was written.")


@checked_arguments
def remove_folder(source: str | Path, target: str | Path, mask: NeuronMask) -> FolderRecord:
    """Write a checkpoint in which removed neurons are zero, as `remove_` and `save_pretrained` would.

    Args:
        source: A folder with a checkpoint in safetensors, in full precision. It is only read.
        target: The folder to write: all of it, or nothing.
        mask: Which neurons stay.

    Returns:
        What was done; it lies in the target as `untangle.json` too.

    Raises:
        CheckpointError: Something is missing in the source, or a tensor in it does not belong to the model.
        MaskError: The mask was made for another model.
        OutputError: The target is not ours to replace, or cannot be written.
    """
    with _between(source, target):
        located = _locate(open_checkpoint(source))
        mask = mask_of_all(mask, located.groups, str(source))
        edits = edits_of(located.twin, located.groups, mask, {})
        check_replaceable(target, source=source, needs=located.checkpoint.size)
        return _write(located, target, mask, edits, located.checkpoint.config, None, {})


@contextmanager
def _between(source: str | Path, target: str | Path) -> Iterator[None]:
    """Refuse a target that the source lies in, and keep the source as it is while it is read; SIGTERM is an interrupt."""
    with sigterm_as_interrupt():
        check_replaceable(target, source=source)
        recover(Path(source))
        with undisturbed(Path(source)):
            yield


@dataclass(frozen=True, eq=False)
class Located:
    """A checkpoint whose neurons are known."""

    checkpoint: Checkpoint
    twin: PreTrainedModel
    """The hollow model."""
    groups: tuple[NeuronGroup, ...]
    parts: dict[str, Part]
    """What each tensor of the checkpoint is in the model."""


def _locate(checkpoint: Checkpoint) -> Located:
    """Find the neurons of a checkpoint on its hollow twin."""
    config, model_class = checkpoint.config, checkpoint.model_class
    with _sound(checkpoint):
        shapes = skeleton(model_class, config)
    # Shapes first: a hollow model takes memory, though little, for what the configuration alone states.
    parts = parts_in(checkpoint, shapes)
    _check_layers(checkpoint, shapes_of(shapes), parts)
    with _sound(checkpoint):
        twin = hollow(model_class, config)
        return Located(checkpoint, twin, neuron_groups(twin), parts)


def _check_layers(checkpoint: Checkpoint, shapes: Mapping[str, object], parts: Mapping[str, Part]) -> None:
    """Refuse a configuration with more layers than the checkpoint, before a model of all of them runs."""
    stated = {layer[0] for name in shapes if (layer := LAYER.match(name))}
    held = {layer[0] for part in parts.values() if (layer := LAYER.match(part.parameter))}
    if missing := sorted(stated - held):
        raise CheckpointError(
            f"`{checkpoint.folder}` must hold weights of every layer that its configuration states, but {len(missing)} have "
            f"none, such as `{missing[0]}`. Download it again."
        )


@contextmanager
def _sound(checkpoint: Checkpoint) -> Iterator[None]:
    """Say which configuration is wrong when a model cannot be made of it, or cannot run."""
    try:
        yield
    except UntangleError:
        raise
    except Exception as error:  # What a model does with settings of a wrong kind is up to its class.
        raise ArchitectureError(
            f"`{checkpoint.folder}` must hold the configuration of a model that runs, got {one_line(error)}"
        ) from error


def _removed_in(located: Located) -> NeuronMask:
    """Read off the weights in the files which neurons are removed."""
    places = {group.name: place_of(located.twin, group.name) for group in located.groups}
    wanted = {place.weight: (name, place) for name, place in places.items()}
    everything = NeuronMask.keep_all(located.groups, str(located.checkpoint.folder))
    kept = {group: own.clone() for group, own in everything.items()}
    for file, names in located.checkpoint.shards.items():
        for name in names:
            part = located.parts.get(name)
            if part is not None and part.parameter in wanted:
                group, place = wanted[part.parameter]
                read = reads(located.checkpoint.read(file, name), place)
                first = (part.expert or 0) * len(read)
                kept[group][first : first + len(read)] = read
    return everything.with_kept(kept)


def _write(
    located: Located,
    target: str | Path,
    mask: NeuronMask,
    edits: Edits,
    config: PreTrainedConfig,
    layout: Layout | None,
    left: dict[str, str],
    complete: Callable[[Path, FolderRecord], object] | None = None,
) -> FolderRecord:
    """Write the target folder: shards, index, configuration, record, and what is carried over."""
    checkpoint = located.checkpoint
    _check_all_there(located, edits)
    with whole_folder(target) as draft:
        for file in own_files(checkpoint.folder, CARRIED):
            if file.name not in checkpoint.shards:
                shutil.copy2(file, draft)
        config.save_pretrained(draft)
        by_name = {name: part.edit(edits[part.parameter]) for name, part in located.parts.items() if part.parameter in edits}
        sizes = [rewrite_shard(checkpoint.folder / file, draft / file, by_name) for file in checkpoint.shards]
        before, after = sum(size.before for size in sizes), sum(size.after for size in sizes)
        _write_index(checkpoint, draft, after, sum(size.bytes for size in sizes))
        ragged = config.get_text_config().is_heterogeneous
        record = FolderRecord(
            checkpoint.folder.resolve().name,
            replace(mask, model=public_name(mask.model)).describe(),
            layout,
            before,
            after,
            ragged,
            left,
        )
        (draft / MARKER).write_text(json.dumps(asdict(record), indent=2) + "\n")
        if complete is not None:
            complete(draft, record)
    return record


def _write_index(checkpoint: Checkpoint, draft: Path, parameters: int, size: int) -> None:
    """Write the index again, with the new sizes; a single file has none."""
    if not (checkpoint.folder / INDEX).is_file():
        return
    index = read_json(Expected(checkpoint.folder / INDEX, "the index of a checkpoint", CheckpointError))
    metadata = index.get("metadata")
    index["metadata"] = (metadata if isinstance(metadata, dict) else {}) | {"total_size": size, "total_parameters": parameters}
    (draft / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _check_all_there(located: Located, edits: Edits) -> None:
    """Refuse a checkpoint that lacks a tensor that changes; tied ones are there once."""
    shapes, there = shapes_of(located.twin), Counter[str]()
    for part in located.parts.values():
        there[part.parameter] += prod(part.shape)
    if missing := [name for name in edits if there[name] != prod(shapes[name])]:
        raise CheckpointError(
            f"The checkpoint `{located.checkpoint.folder}` must hold the parameter `{min(missing)}`, which changes, but no "
            "tensor of it has this name. Load the model and use `compact(model, mask)` and `save_pretrained` instead."
        )
