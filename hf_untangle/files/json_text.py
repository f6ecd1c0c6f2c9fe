"""JSON from outside: bounded in size, nesting, count and integers, and without duplicate keys."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hf_untangle.files.regular import Expected, read_bytes, shown

LIMIT = 1 << 26
"""Bytes of a JSON file."""
DEPTH = 64
"""Brackets within brackets."""
VALUES = 2_000_000
"""Values in one text, each of which takes some 100 bytes of memory."""
DIGITS = 40
"""Characters of an integer; a checksum of 64 bits has 20."""

STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _JSONError(ValueError):
    """What is wrong with a text, in words that follow `got`."""


def read_json(expected: Expected, limit: int = LIMIT) -> Any:
    """Read a JSON file.

    Args:
        expected: Which file, and what it must hold.
        limit: Bytes that it may have.

    Returns:
        Its value.

    Raises:
        UntangleError: It cannot be read, or is not such JSON as `parse_json` takes.
    """
    return parse_json(read_bytes(expected, limit), expected)


def parse_json(text: bytes, expected: Expected, part: str = "") -> Any:
    """Parse JSON.

    Args:
        text: In UTF-8.
        expected: The file that it comes from.
        part: Where in the file it is, in words for the message, such as ` in its header`.

    Returns:
        The value.

    Raises:
        UntangleError: It is no JSON, nests deeply, has very many values, a very long integer, a key twice, or half of a
            character.
    """
    try:
        _check_structure(text)
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_int=_bounded_integer)
        if SURROGATE.search(text):
            # Escapes can write half of a surrogate pair, which is no text and breaks whatever writes it.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        found = str(error) if isinstance(error, _JSONError) else f"text that is no JSON ({error})"
        raise expected.fault(found + part) from error
    return value


def _check_structure(text: bytes) -> None:
    """Refuse what would take much more time or memory than its size, before it is parsed."""
    plain = np.frombuffer(STRING.sub(b"", text), dtype=np.uint8)
    opened, closed = (np.isin(plain, list(signs)) for signs in (b"[{", b"]}"))
    if (opened.astype(np.int32) - closed).cumsum(dtype=np.int32).max(initial=0) > DEPTH:
        raise _JSONError(f"JSON nested more than {DEPTH} deep")
    if np.isin(plain, list(b",:[{")).sum() > VALUES:
        raise _JSONError(f"JSON with more than {VALUES:,} values")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which every key stands once."""
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _JSONError(f"JSON with the key {shown(twice)} twice")
    return content


def _bounded_integer(digits: str) -> int:
    """An integer, which a few characters write."""
    if len(digits) > DIGITS:
        raise _JSONError(f"JSON with an integer of {len(digits):,} characters")
    return int(digits)


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
