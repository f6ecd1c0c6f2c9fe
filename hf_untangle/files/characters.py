"""Halves of characters, which escapes in JSON and cut-off texts leave behind, and which no tokenizer and no file takes."""

from collections.abc import Mapping
from typing import Any


def whole_text(text: str) -> str:
    """Replace halves of characters (lone surrogates) by the sign for what cannot be read.

    Args:
        text: Any text.

    Returns:
        The same, where all of its characters are whole.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def whole_texts(value: Any) -> Any:
    """Do so in every text of a value.

    Args:
        value: A text, or lists and mappings of such; anything else stays as it is.

    Returns:
        The same value, of plain lists and mappings.
    """
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, Mapping):
        return {key: whole_texts(one) for key, one in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(one, str | Mapping | list | tuple) for one in value):
        return [whole_texts(one) for one in value]
    return value
