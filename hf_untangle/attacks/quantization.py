"""Storing weights in 4 or 8 bits: small dense changes are rounded away by it (ICLR 2025), exact zeros are not.

Both formats have an exact zero: NF4 as one of its sixteen values (arXiv:2305.14314), INT8 as the middle of its range
(arXiv:2208.07339).
"""

import importlib.util
from collections.abc import Iterator
from typing import Any

from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from hf_untangle.attacks.context import Scene
from hf_untangle.errors import MissingExtraError
from hf_untangle.folders import temporary_folder
from hf_untangle.logs import quiet
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.records.attacks import Reading

FORMATS: dict[str, dict[str, Any]] = {
    "INT8": {"load_in_8bit": True},
    "NF4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
}
"""What bitsandbytes is told for each format."""


def quantize(scene: Scene) -> Iterator[Reading | str]:
    """Quantize a copy of every model, and measure it on both corpora.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows in each format, and whether removed weights are still exactly zero.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("Quantizing needs bitsandbytes: run `pip install 'hf-untangle[quantized]'`.")
    for number, format_ in enumerate(FORMATS, start=1):
        for who, seed, model in scene.victims():
            with quiet():
                small = quantized(model, format_)
                scores = scene.judge(small)
            yield Reading(model=who, condition=format_, at=number, forget=scores.forget, retain=scores.retain, seed=seed)
            if who == "unlearned" and scene.is_pruned:
                yield _zeros_in_words(scene, small, format_)


def quantized(model: PreTrainedModel, format_: str) -> PreTrainedModel:
    """Quantize a model as users do, by loading its checkpoint in fewer bits.

    A 4-bit weight is read back before every product, so the model is given with weights that were quantized and read back:
    it computes the same, also where bitsandbytes has no kernel for narrow layers. INT8 rounds activations as well.

    Args:
        model: The model, which is left as it is.
        format_: A key of `FORMATS`.

    Returns:
        Another model, whose projections are quantized; the head and what is no projection keep their dtype.
    """
    bits = BitsAndBytesConfig(**FORMATS[format_])
    with temporary_folder() as folder:
        model.save_pretrained(folder)
        small = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=bits, device_map=str(model.device), dtype=model.dtype, trust_remote_code=False
        )
    return (small.dequantize() if format_ == "NF4" else small).eval()


def _zeros_in_words(scene: Scene, small: PreTrainedModel, format_: str) -> str:
    """Say whether all that belonged to removed neurons reads as zero in a quantized model, which is lost by it."""
    with quiet():
        read = small.dequantize() if format_ == "INT8" else small
    zero = all_zero(held_parameters(read, scene.mask, scene.groups))
    return f"{format_}: what belonged to removed neurons is {'still exactly' if zero else 'no longer exactly'} zero."
