"""Chats as data sets have them: turns by `role` and `content`, or by `from` and `value` as ShareGPT writes them."""

from collections.abc import Iterable, Mapping
from typing import Any

from hf_untangle.data.documents import Message
from hf_untangle.errors import CorpusError

ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
"""What speakers are called in ShareGPT-like data sets, and what chat templates call them."""


def is_chat(value: Any) -> bool:
    """Tell whether a cell holds a chat.

    Args:
        value: The cell.

    Returns:
        True for a list of mappings with the role of each speaker.
    """
    several = isinstance(value, list | tuple) and len(value) > 0
    return several and all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)


def chat_messages(value: Iterable[Mapping[str, Any]], where: str) -> tuple[Message, ...]:
    """Read the turns of a chat.

    Args:
        value: Turns with `role` and `content`, or with `from` and `value`.
        where: Which row it is, for errors.

    Returns:
        The same turns with `role` and `content`, keys without a value left out.

    Raises:
        CorpusError: A turn says something else than text.
    """
    return tuple(_message(turn, where) for turn in value)


def _message(turn: Mapping[str, Any], where: str) -> Message:
    """Read one turn."""
    keys = {"from": "role", "value": "content"}
    message = {keys.get(key, key): value for key, value in turn.items() if value is not None}
    message["role"] = ROLES.get(str(message["role"]).lower(), str(message["role"]))
    message["content"] = _text(message.get("content", ""), where)
    return message


def _text(content: Any, where: str) -> str:
    """The text of a message, which may come in blocks."""
    if isinstance(content, str):
        return content
    if isinstance(content, list | tuple) and all(isinstance(block, Mapping) for block in content):
        kinds = {str(block.get("type", "text")) for block in content}
        if kinds <= {"text"}:
            return "".join(str(block.get("text") or "") for block in content)
        raise CorpusError(f"Messages must be text, but {where} has {', '.join(sorted(kinds - {'text'}))} in one. Leave it out.")
    raise CorpusError(f"The `content` of a message must be text, but {where} has {type(content).__name__} in one.")
