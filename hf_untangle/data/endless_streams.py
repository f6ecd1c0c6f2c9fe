"""What is sought in a stream that may never end: found, or given up."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from hf_untangle.data.documents import Document, as_document
from hf_untangle.data.splits import Part
from hf_untangle.errors import CorpusError

Item = TypeVar("Item")
MOST = 1_000_000
"""How many in a row are looked at for one that fits: seconds, and more than real data leaves between two of a part."""


def sought(items: Iterable[Item], fits: Callable[[Item], bool], what: str) -> Iterator[Item]:
    """Read what fits, and give a stream up that does not come to it.

    Args:
        items: Anything, without end or not.
        fits: What is sought.
        what: The same in words, for the message: `a document with text in it`.

    Yields:
        The items that fit. After a million in a row that do not, a `CorpusError`.
    """
    missed = 0
    for item in items:
        if fits(item):
            missed = 0
            yield item
        elif (missed := missed + 1) >= MOST:
            raise CorpusError(
                f"A corpus must have {what} among any {MOST:,} in a row, but here so many had none. Pass other rows, or a "
                "generator that ends."
            )


def filled(documents: Iterable[str | Document]) -> Iterator[Document]:
    """Read documents in which there is something.

    Args:
        documents: Any documents.

    Returns:
        Those that are not blank.
    """
    return sought(map(as_document, documents), lambda one: not one.is_blank, "a document with text in it")


def found_in(documents: Iterable[tuple[Part, Document]], part: Part) -> Iterator[Document]:
    """Read the documents of one part.

    Args:
        documents: Documents, each with its part.
        part: The part.

    Returns:
        Those of the part.
    """
    what = f"a document of its part `{part}` (documents that are alike are in one part)"
    return (one for _, one in sought(documents, lambda pair: pair[0] == part, what))
