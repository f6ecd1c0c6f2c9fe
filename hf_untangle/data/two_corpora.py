"""What is forgotten and what is retained: two corpora, or the two sides of one preference data set, under two names."""

from dataclasses import replace
from typing import Literal

from hf_untangle.data.corpora import ALL, Corpus, CorpusSource, corpus, with_chat
from hf_untangle.data.documents import ChatMode, Side

Split = Literal["parts", "all"]
"""Whether the forget corpus is parted into train, validation and test, or every part has all of its rows."""
GENERAL = "general"
"""What is kept of a language model when nothing is said."""


def two_corpora(
    forget: CorpusSource, retain: CorpusSource | None, *, chat: ChatMode = "auto", split: Split = "parts"
) -> tuple[Corpus, Corpus]:
    """Open what is forgotten and what is retained.

    Args:
        forget: The corpus whose capability goes; of a preference data set, the rows that are to be forgotten.
        retain: The corpus whose capability stays, or several; when None, the other rows of a preference data set, and otherwise
            `general` prose.
        chat: Whether rows pass through the model's chat template, for corpora that do not say so themselves.
        split: Whether the forget corpus is parted, or every part has all rows of it.

    Returns:
        Both, no two corpora under one name.

    Raises:
        CorpusError: One of them cannot be opened.
    """
    gone = sided(with_chat(corpus(forget, split=ALL if split == ALL else None), chat), "forget")
    if retain is None:
        retain = replace(gone, side=None) if gone.two_sided else GENERAL
    return _named_apart(gone, sided(with_chat(corpus(retain), chat), "retain"))


def sided(opened: Corpus, side: Side) -> Corpus:
    """Choose the rows for one use, where a data set has some for either and none were chosen yet.

    Args:
        opened: A corpus, or several.
        side: What it is used for.

    Returns:
        The corpus.
    """
    members = tuple(sided(one, side) for one in opened.members)
    return replace(opened, members=members, side=(opened.side or side) if opened.two_sided else None)


def _named_apart(gone: Corpus, kept: Corpus) -> tuple[Corpus, Corpus]:
    """Two corpora under two names; those that are the same keep theirs, as they are refused by it."""
    names = {one.name for one in kept.members or (kept,)}
    if gone.name not in names or (gone.source == kept.source and gone.origin in ("hub", "embedded")):
        return gone, kept
    members = tuple(replace(one, name=f"{one.name} (retain)") if one.name == gone.name else one for one in kept.members)
    name = " + ".join(one.name for one in members) if members else f"{kept.name} (retain)"
    return replace(gone, name=f"{gone.name} (forget)"), replace(kept, name=name, members=members)
