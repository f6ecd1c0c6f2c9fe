"""What rows were taken for, in one line that a person reads before anything long begins."""

import logging
from collections.abc import Mapping

from hf_untangle.data.documents import Part
from hf_untangle.data.packing import TokenRows
from hf_untangle.data.row_formats import Kind
from hf_untangle.progress import say

logger = logging.getLogger("hf_untangle")


def understood(found: TokenRows, kind: Kind, template: str | None, answers: int, tokens: int) -> str:
    """Say what rows were taken for.

    Args:
        found: The rows.
        kind: What one document is called.
        template: Whose chat template they passed through; None without one.
        answers: How many tokens are to be predicted and count.
        tokens: How many tokens there are.

    Returns:
        For instance `100 chats, template of SmolLM2, 1,234 answer tokens of 3,400`.
    """
    parts = [counted(found.documents, kind)]
    if found.answers is None:
        parts.append(f"{tokens:,} tokens")
    else:
        parts += [f"template of {template}" if template else "no template", f"{answers:,} answer tokens of {tokens:,}"]
    if found.long:
        parts.append(f"{counted(found.long, kind)} longer than a block in several")
    if found.without:
        parts.append(f"{counted(found.without, kind)} without an answer left out")
    return ", ".join(parts)


def announce(line: str, *, progress: bool) -> None:
    """Say a line in the log or, where nobody reads that, beside the progress bars.

    Args:
        line: What to say.
        progress: Whether progress is shown.
    """
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", line)
    else:
        say(line, progress=progress)


def parts_in_words(documents: Mapping[Part, int]) -> str:
    """Say how the parts of a corpus came out.

    Args:
        documents: How many documents were read of each.

    Returns:
        For instance `24 to train on, 8 to validate, 8 to test`.
    """
    verbs: dict[Part, str] = {"train": "to train on", "validation": "to validate", "test": "to test"}
    return ", ".join(f"{count:,} {verbs[part]}" for part, count in documents.items())


def counted(number: int, kind: Kind) -> str:
    """Write a number of documents.

    Args:
        number: How many.
        kind: What one is called.

    Returns:
        `1 chat`, `2 chats`.
    """
    return f"{number:,} {kind}{'s' if number != 1 else ''}"
