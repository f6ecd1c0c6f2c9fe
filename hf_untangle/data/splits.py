"""Which documents train, which validate, and which test."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import get_args

from hf_untangle.data.documents import Document, Part
from hf_untangle.errors import CorpusError

PARTS: tuple[Part, ...] = get_args(Part)
FIFTHS: dict[Part, int] = {"train": 3, "validation": 1, "test": 1}
"""How many fifths of a corpus each part has."""
SMALL = 200
"""Corpora with fewer documents than this are parted exactly, as a hash alone may leave a part with hardly any of them."""
NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
"""What splits of a data set may be called; `train_sft` goes by its beginning."""


def part_of(document: str) -> Part:
    """Tell the part of a document: train 60%, validation 20%, test 20%.

    The part follows from a hash of the document's words alone. Copies of a document, also with other white
    space, therefore never stand in two parts, and a stream can be parted without an index.

    Args:
        document: The text of the document, or the group that it belongs to.

    Returns:
        The part that the document always belongs to.
    """
    fifth = int.from_bytes(_digest(document)[:8], "big") % 5
    return "train" if fifth < 3 else "validation" if fifth == 3 else "test"


def parted(documents: Iterable[Document], among: Iterable[Part] = PARTS) -> Iterator[tuple[Part, Document]]:
    """Give every document its part.

    A corpus of fewer than 200 documents is parted as evenly as its groups allow: the largest group first, and then by hash,
    each goes to the part that has least of its share. Larger ones go by `part_of`, as they come.

    Args:
        documents: The documents.
        among: The parts that there are; documents of a part that is not among them train.

    Yields:
        Each document with its part, in order.
    """
    stream = iter(documents)
    first = list(islice(stream, SMALL))
    allowed: tuple[Part, ...] = tuple(among)
    if len(first) < SMALL:
        parts = _evenly(first, allowed)
        for one in first:
            yield parts[_words(one.key)], one
        return
    for document in chain(first, stream):
        yield _within(part_of(document.key), allowed), document


def own_parts(names: Iterable[str], where: str) -> dict[Part, str]:
    """Find out which split of a data set is which part.

    Args:
        names: The names of its splits.
        where: What to call the data set in an error.

    Returns:
        The name of the split of each part that has one.

    Raises:
        CorpusError: No split trains, or two splits are the same part.
    """
    listed = list(names)
    found: dict[Part, str] = {}
    for name in listed:
        part = NAMES.get(name.lower()) or NAMES.get(name.lower().replace("-", "_").partition("_")[0])
        if part is None:
            continue
        if part in found:
            raise CorpusError(
                f"`{where}` has two splits for {part}, `{found[part]}` and `{name}`. Choose one of {_quoted(listed)}: "
                "`untangle.corpus(data, split=...)`, or pass {'train': ..., 'validation': ..., 'test': ...}."
            )
        found[part] = name
    if "train" not in found:
        raise CorpusError(
            f"Splits must be named train, validation and test, of which train must be there, but `{where}` has "
            f"{_quoted(listed)}. Choose one, which is then parted: `untangle.corpus(data, split=...)`. Columns are rows "
            "once they are `datasets.Dataset.from_dict(columns)`, and a row by itself is a list of one."
        )
    return found


def _within(part: Part, among: tuple[Part, ...]) -> Part:
    """A part where it is among others, and otherwise the one that trains."""
    return part if part in among else "train"


def _evenly(documents: list[Document], among: tuple[Part, ...]) -> Mapping[str, Part]:
    """Part a few documents, those of a group together."""
    sizes = Counter(_words(one.key) for one in documents)
    filled: dict[Part, int] = dict.fromkeys(among, 0)
    parts: dict[str, Part] = {}
    for group in sorted(sizes, key=lambda group: (-sizes[group], _digest(group))):
        part = min(filled, key=lambda part: filled[part] / _share(part, among))
        parts[group] = part
        filled[part] += sizes[group]
    return parts


def _share(part: Part, among: tuple[Part, ...]) -> int:
    """Fifths of a part; training has those of the parts that there are not."""
    missing = sum(fifths for other, fifths in FIFTHS.items() if other not in among)
    return FIFTHS[part] + (missing if part == "train" else 0)


def _words(text: str) -> str:
    """A text without regard to its white space."""
    return " ".join(text.split())


def _digest(text: str) -> bytes:
    """A hash of the words of a text."""
    return hashlib.sha256(_words(text).encode("utf-8", "surrogatepass")).digest()


def _quoted(names: Iterable[str]) -> str:
    """Write names for a person."""
    return ", ".join(f"`{name}`" for name in names)
