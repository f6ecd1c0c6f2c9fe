"""Records as they may leave this machine: without its folders, and without text that a page or a card would take for markup."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hf_untangle.files.json_text import whole_text
from hf_untangle.files.names import is_absolute, public_name, public_text
from hf_untangle.hub.cards import as_markdown
from hf_untangle.records.base import RunRecord

Record = TypeVar("Record", bound=RunRecord)

NAMES = ("model", "original", "gold")
"""Fields that name a model."""
CONTENT = ("continuations", "config")
"""Fields that say nothing of this machine: what models wrote, and settings."""


def shareable(record: Record) -> Record:
    """Take the folders of this machine out of a record.

    Args:
        record: The record of a run.

    Returns:
        The same, with models and corpora that were folders or files named by their last parts.
    """
    paths = {path: public_name(path) for path in sorted(set(_paths(record.model_dump())), key=len, reverse=True)}
    return _changed(record, lambda text, key: _shared(text, key, paths))


def for_markdown(record: Record) -> Record:
    """Write every name in a record so that Markdown shows it as it is.

    Args:
        record: The record of a run.

    Returns:
        The same, for the text of a card alone.
    """
    return _changed(record, lambda text, key: text if key in CONTENT else as_markdown(text))


def _shared(text: str, key: str, paths: dict[str, str]) -> str:
    """One text of a record, without folders and without halves of characters, which no file could hold."""
    whole = whole_text(text)
    if key in CONTENT:
        return whole
    if key in NAMES:
        return public_name(whole)
    for path, name in paths.items():
        whole = whole.replace(path, name)
    return public_text(whole)


def _paths(value: Any, key: str = "") -> Iterator[str]:
    """The paths of models that a record names, which may hold spaces and stand in any of its sentences."""
    if isinstance(value, str) and key in NAMES and is_absolute(value):
        yield value
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _paths(one, str(name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _paths(one, key)


def _changed(record: Record, change: Callable[[str, str], str]) -> Record:
    """A record whose texts are changed, each by the name of its field."""
    return type(record).model_validate(_walked(record.model_dump(), change, ""))


def _walked(value: Any, change: Callable[[str, str], str], key: str) -> Any:
    """Values whose texts are changed."""
    if isinstance(value, str):
        return change(value, key)
    if isinstance(value, dict):
        return {name: _walked(one, change, key if key in CONTENT else str(name)) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_walked(one, change, key) for one in value)
    return value
