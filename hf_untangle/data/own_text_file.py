"""Text that a model wrote itself, beside the result that it was retained for: no name finds it again."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from hf_untangle.data.blocks import Blocks
from hf_untangle.data.catalogue import OWN
from hf_untangle.data.corpora import Corpus, Reader
from hf_untangle.data.documents import Part
from hf_untangle.data.splits import PARTS
from hf_untangle.errors import CorpusError
from hf_untangle.files.json_text import read_json
from hf_untangle.files.regular import Expected

FILE = "own-text.json"
"""The file name of the texts in the folder of a result."""
LONGEST = 200
"""Characters of the line that says how they were written, at the most."""


def own_corpus(parts: Mapping[Part, Sequence[str]], source: str) -> Corpus:
    """Make a corpus of texts that a model wrote itself.

    Args:
        parts: The texts of every part.
        source: How they were written, in a line.

    Returns:
        The corpus, named `self`.
    """
    every = [text for texts in parts.values() for text in texts]
    own: dict[Part, Reader] = {part: partial(iter, texts) for part, texts in parts.items()}
    return Corpus(OWN, OWN, source, "unknown", partial(iter, every), own=own)


def save_own_text(blocks: Blocks, folder: Path) -> None:
    """Write the text that a model wrote itself into the folder of a result, where its retain corpus has such.

    Args:
        blocks: Blocks of the corpus, or of several.
        folder: A folder that exists.
    """
    read = blocks.corpus
    several = (read.members or (read,)) if isinstance(read, Corpus) else ()
    for one in several:
        if one.origin == OWN and one.own:
            content = {"source": one.source, "parts": {part: list(one.documents(part)) for part in PARTS}}
            (folder / FILE).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load_own_text(folder: Path) -> Corpus:
    """Read what `save_own_text` wrote, of which nothing is believed.

    Args:
        folder: The folder of a result.

    Returns:
        The corpus, named `self`, with the same parts.

    Raises:
        CorpusError: There is none, or it holds something else.
    """
    expected = Expected(folder / FILE, "texts that a model wrote, by part", CorpusError)
    content = read_json(expected)
    parts, source = (content.get(name) if isinstance(content, dict) else None for name in ("parts", "source"))
    if not isinstance(source, str) or len(source) > LONGEST or not source.isprintable():
        raise expected.fault("no line that says how they were written")
    if not isinstance(parts, dict) or set(parts) != set(PARTS):
        raise expected.fault("other parts than " + ", ".join(PARTS))
    if not all(isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts) for texts in parts.values()):
        raise expected.fault("a part without texts")
    return own_corpus(parts, source)
