"""A checkpoint whose feed-forward blocks are swapped, with the logits compared before and after."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.errors import ArchitectureError, ConfigError
from hf_untangle.ragged import enable_ragged_checkpoints
from hf_untangle.translation.kan.convert import NOTE, kan_layers_of, outputs_on, to_kan_, to_relu_, token_ids
from hf_untangle.translation.kan.page import feed_forward_page
from hf_untangle.translation.rewriting import Written


def write_checkpoint(
    name: str,
    to: Literal["kan", "relu"],
    folder: Path,
    *,
    dtype: str = "auto",
    texts: Sequence[str] | None = None,
    block: int = -1,
) -> Written:
    """Swap the feed-forward blocks of a model for KAN layers, or back, and save it.

    Args:
        name: A key of `models.EMBEDDED`, a folder, or a Hub id.
        to: What its blocks become.
        folder: Where to write the checkpoint and, given texts, `block.html`.
        dtype: The dtype of the weights.
        texts: What to run the model on for the page about one block.
        block: Which block the page is about, in the order of the model; -1 is the last.

    Returns:
        What was measured and written.

    Raises:
        ConfigError: Texts came without a tokenizer, or there is no such block.
    """
    model, tokenizer = _load(name, dtype)
    before = outputs_on(model, token_ids(model))
    to_kan_(model)
    blocks = getattr(model.config, NOTE)
    edges = sum(layer.weight.numel() for layer in kan_layers_of(model).values())
    files = ["model.safetensors", "config.json"]
    if texts is not None:
        if tokenizer is None or not -len(blocks) <= block < len(blocks):
            raise ConfigError(f"A page needs a tokenizer and one of the {len(blocks)} blocks of `{name}`, got {block}.")
        page = feed_forward_page(model, tokenizer, texts, blocks[block][-1])
        (folder / "block.html").write_text(page, encoding="utf-8")
        files.append("block.html")
    if to == "relu":
        to_relu_(model)
    after = outputs_on(model, token_ids(model))
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    measured: dict[str, Any] = {
        "equal to the last bit": all(map(torch.equal, before, after)),
        "feed-forward blocks": len(blocks),
        "edges": edges,
    }
    return Written(measured, tuple(files))


def _load(name: str, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """A model of the class that its checkpoint was saved from, and its tokenizer if it has one."""
    try:
        enable_ragged_checkpoints()
        with models.checkpoint_of(name) as source:
            architectures = AutoConfig.from_pretrained(source).architectures or [""]
            kind = getattr(transformers, architectures[0], AutoModelForCausalLM)
            model = kind.from_pretrained(source, dtype=dtype).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise ArchitectureError(
            f"`{name}` must be a file with a multilayer perceptron, a folder with a checkpoint, or a model on the Hub, but it "
            f"could not be loaded: {str(error).partition(chr(10))[0]}"
        ) from error
    try:
        with models.checkpoint_of(name) as source:
            return model, AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError):  # nothing but a page needs one
        return model, None
