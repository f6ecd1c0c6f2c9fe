"""A mask as a stock peft (IA)3 adapter (arXiv:2205.05638): a vector of 0 and 1 at the input of every output projection.

(IA)3 multiplies what a projection reads by a vector, and a mask does nothing else. So peft loads, switches off, combines and
merges masks, in a process that knows nothing of this package. An adapter hides neurons; `remove_` removes them.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Bool
from safetensors.torch import save_file
from torch import Tensor

from hf_untangle.architecture.neurons import Kind
from hf_untangle.errors import MaskError
from hf_untangle.files.names import public_name
from hf_untangle.files.records import read_record
from hf_untangle.files.regular import Expected, shown
from hf_untangle.files.tensors import FLOATS, Content, read_any_tensors
from hf_untangle.folders import MARKER
from hf_untangle.masks.ablation import Ablation
from hf_untangle.masks.mask_record import AdapterRecord

FORMAT = "hf_untangle.adapter/1"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX, SUFFIX = "base_model.model.", ".ia3_l"
"""What peft puts around the name of a projection."""


def write_adapter(
    folder: Path, kept: Mapping[str, Bool[Tensor, " neuron"]], kinds: dict[str, Kind], model: str, ablation: Ablation = "zero"
) -> None:
    """Write a mask as an adapter into a folder that exists.

    Every projection is named in full, so that the adapter never touches another one, and counts as a feed-forward module,
    which is peft's word for a vector at the input and not at the output.

    Args:
        folder: Where the files go.
        kept: Which neurons stay, by the name of their output projection.
        kinds: The kind of each group; peft has no place for it, so it goes into a separate file.
        model: The model that the mask was made for.
        ablation: What removed neurons read in the run that the mask comes from.

    Raises:
        MaskError: Some neurons belong to experts in one tensor, which peft cannot scale, or the ablation is not zero.
    """
    check_silences(ablation)
    _check_modules(kept)
    from peft import IA3Config, TaskType

    names = list(kept)
    config = IA3Config(
        task_type=TaskType.CAUSAL_LM,
        target_modules=names,
        feedforward_modules=names,
        base_model_name_or_path=public_name(model),
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    vectors = {f"{PREFIX}{name}{SUFFIX}": vector.float()[None].contiguous() for name, vector in kept.items()}
    save_file(vectors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / MARKER).write_text(json.dumps({"format": FORMAT, "model": public_name(model), "kinds": kinds}, indent=2) + "\n")


def read_adapter(folder: Path) -> tuple[dict[str, Bool[Tensor, " neuron"]], dict[str, Kind], str]:
    """Read what `write_adapter` wrote.

    Args:
        folder: A folder with an adapter.

    Returns:
        Which neurons stay, the kind of each group, and the model that the mask was made for.

    Raises:
        MaskError: The folder has no adapter of this package, or its vectors hold something else than 0 and 1.
    """
    record = _read_record(folder)
    expected = Expected(folder / WEIGHTS, "the vectors of a mask", MaskError)
    content = Content(expected, read_any_tensors(expected)[1], record)
    by_name = {key.removeprefix(PREFIX).removesuffix(SUFFIX): key for key in content.tensors}
    if by_name.keys() != record.kinds.keys():
        raise MaskError(f"`{folder}` must hold one vector for every group that its {MARKER} names, but the names differ.")
    kept = {name: _as_mask(content.take(by_name[name], (1, None), FLOATS), expected) for name in record.kinds}
    return kept, record.kinds, record.model


def check_silences(ablation: Ablation, *, refitted: bool = False, trained: bool = False) -> None:
    """Refuse a mask of which an adapter would be something else: (IA)3 scales what a projection reads, and cannot shift it.

    Args:
        ablation: What removed neurons read in the run that the mask comes from.
        refitted: Whether kept neurons got new output weights in that run.
        trained: Whether that run trained weights.

    Raises:
        MaskError: Removed neurons do not read zero, or kept ones got new weights.
    """
    if trained:
        raise MaskError(
            "An adapter can only silence neurons, but the run of this mask trained weights, and its numbers would not be those "
            "of the adapter. Share the checkpoint, or run again with method='prune'."
        )
    if refitted:
        raise MaskError(
            "An adapter can only silence neurons, but the run of this mask refitted output weights, and its numbers would not "
            "be those of the adapter. Share the checkpoint, or run again with compensate='none'."
        )
    if ablation != "zero":
        raise MaskError(
            f"An adapter can only silence neurons, but the run of this mask held them at ablation={ablation!r}, and its "
            "numbers would not be those of the adapter. Share the checkpoint, or run again with ablation='zero'."
        )


def _check_modules(names: Iterable[str]) -> None:
    """Refuse neurons of fused experts, which peft would leave out without a word."""
    for name in names:
        if name.split(".")[-2:-1] == ["experts"]:
            raise MaskError(
                f"An adapter can only scale what a module reads, but `{name}` is one tensor for all experts. Try the mask with "
                "`masked(model, mask)`, or remove its neurons with `remove_` and share the checkpoint."
            )


def _read_record(folder: Path) -> AdapterRecord:
    """What an adapter is of, as `write_adapter` wrote it beside it."""
    expected = Expected(folder / MARKER, "the record of an adapter that `to_adapter` wrote", MaskError)
    record = read_record(AdapterRecord, expected)
    if record.format != FORMAT:
        raise expected.fault(f"the format {shown(record.format)}")
    return record


def _as_mask(vector: Tensor, expected: Expected) -> Bool[Tensor, " neuron"]:
    """A vector of 0 and 1 as a mask."""
    if not torch.isin(vector, torch.tensor([0.0, 1.0], dtype=vector.dtype)).all():
        raise expected.fault(
            "other numbers than 0 and 1: the adapter was trained or combined with weights, so it is no mask; use it with peft"
        )
    return vector.flatten().bool()
