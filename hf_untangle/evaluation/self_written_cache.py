"""Texts that a model has written, kept in the cache folder under its weights and how they were sampled."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_untangle.distributed import in_main
from hf_untangle.errors import CorpusError, OutputError, UntangleError
from hf_untangle.files.json_text import LIMIT, parse_json
from hf_untangle.files.regular import Expected, read_text
from hf_untangle.folders import cache_folder, whole_file
from hf_untangle.statistics.fingerprint import weights_fingerprint

logger = logging.getLogger("hf_untangle")


def cached_texts(model: PreTrainedModel, settings: Mapping[str, Any], write: Callable[[], list[str]]) -> list[str]:
    """Read texts, or have them written where they are not there.

    The cache is a convenience: a file that is damaged or cannot be written costs time alone.

    Args:
        model: The model that writes.
        settings: What else decides what it writes, as values that JSON can hold.
        write: Writes them.

    Returns:
        The texts.
    """
    content = json.dumps({"weights": weights_fingerprint(model), **settings}, sort_keys=True)
    file = cache_folder() / "own-text" / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"
    if file.exists():
        try:
            return _read(file)
        except UntangleError as error:
            logger.warning("The model writes its texts again: %s", error)
    texts = write()
    in_main(lambda: _keep(file, texts))
    return texts


def _read(file: Path) -> list[str]:
    """Read a file of texts, of which nothing is believed."""
    expected = Expected(file, "a list of texts", CorpusError)
    texts = parse_json(read_text(expected, LIMIT).encode(), expected)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise expected.fault("something else in it")
    return texts


def _keep(file: Path, texts: list[str]) -> None:
    """Write texts down."""
    try:
        with whole_file(file) as draft:
            draft.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    except (OutputError, OSError) as error:
        logger.warning("The same texts will be written again next time, as they cannot be kept: %s", error)
