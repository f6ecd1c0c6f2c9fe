"""Texts to make problems of: blocks of bytes of a corpus, and of others as shifts."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from hf_untangle.arguments import checked_arguments
from hf_untangle.data.corpora import Corpus, CorpusSource, Part, corpus
from hf_untangle.errors import CorpusError
from hf_untangle.papers.contrast.encoders import ItemSets


def manual() -> Corpus:
    """Open the topics of Python's reference manual, a register of their own, which every interpreter carries.

    Returns:
        The corpus.
    """
    from pydoc_data.topics import topics

    opened = corpus(list(topics.values()))
    return replace(opened, name="manual", source="topics of Python's reference manual", license="PSF-2.0")


BLOCK = 64
"""Bytes in an item."""
LIMIT = 4_000
"""Items of a set at most."""


@checked_arguments
def text_items(source: CorpusSource = "general", shifts: Mapping[str, CorpusSource] | None = None) -> ItemSets:
    """Cut a corpus into items of 64 bytes, with other corpora as shifts.

    Args:
        source: The corpus to train on and to test on in distribution.
        shifts: Corpora to test on, by name; code, Python's reference manual and the same prose in capitals when None.

    Returns:
        At most 4,000 items to train on, of the train part, and as many of each test part.

    Raises:
        CorpusError: A corpus has no text in that part, or two sets have one name.
    """
    opened = corpus(source)
    others = _usual_shifts() if shifts is None else {name: corpus(shift) for name, shift in shifts.items()}
    if opened.name in others:
        raise CorpusError(f"Every set needs a name of its own, but `{opened.name}` is both trained on and a shift. Rename it.")
    sets = {name: byte_blocks(each, "test") for name, each in ({opened.name: opened} | others).items()}
    if shifts is None:
        sets["capitals"] = in_capitals(sets[opened.name])
    return ItemSets(byte_blocks(opened, "train"), sets, {"modality": "text"}, opened.source)


def byte_blocks(source: Corpus, part: Part) -> UInt8[Tensor, "item position"]:
    """Cut the documents of one part into blocks of bytes, leaving out what is too short at a document's end.

    Args:
        source: The corpus.
        part: Its part.

    Returns:
        At most `LIMIT` blocks.

    Raises:
        CorpusError: No document is long enough.
    """
    blocks: list[Tensor] = []
    for document in source.documents(part):
        content = torch.tensor(list(" ".join(document.split()).encode()), dtype=torch.uint8)
        whole = len(content) // BLOCK
        blocks.extend(content[: whole * BLOCK].view(whole, BLOCK))
        if len(blocks) >= LIMIT:
            break
    if not blocks:
        raise CorpusError(f"The {part} part of {source.name} must have a document of {BLOCK} bytes. Pass longer documents.")
    return torch.stack(blocks[:LIMIT])


def in_capitals(blocks: UInt8[Tensor, "item position"]) -> UInt8[Tensor, "item position"]:
    """Write the letters from a to z as capitals.

    Args:
        blocks: Bytes.

    Returns:
        Blocks of the same size.
    """
    return torch.where((blocks >= ord("a")) & (blocks <= ord("z")), blocks - 32, blocks)


def _usual_shifts() -> dict[str, Corpus]:
    """Code, and the register of a manual."""
    return {"code": corpus("code", prefer="embedded"), "manual": manual()}
