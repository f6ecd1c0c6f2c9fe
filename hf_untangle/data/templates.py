"""Chats as a tokenizer's template writes them, and which of their tokens are answers.

A template with `{% generation %}` marks says itself what an assistant turn is. With any other, the answer of a turn is what it
adds to everything before it: the chat up to and with the turn, less the chat before it with the prompt to generate.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from hf_untangle.data.documents import Chat, Message
from hf_untangle.errors import CorpusError

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
STANDS_FOR_ANY = "\ue0a1\ue0a2\ue0a3"
"""Characters for private use, which no template treats in a way of its own."""
Encoded = tuple[list[int], list[bool]]
"""Token ids, and which of them are to be predicted."""


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a tokenizer knows how chats are written.

    Args:
        tokenizer: The tokenizer.

    Returns:
        True when it has a chat template.
    """
    return bool(getattr(tokenizer, "chat_template", None))


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that does not know how chats are written.

    Args:
        tokenizer: The tokenizer.

    Raises:
        CorpusError: It has no chat template.
    """
    if not has_template(tokenizer):
        raise CorpusError(
            f"Rows that are chats need a tokenizer with a chat template, but that of {template_name(tokenizer)} has none. Set "
            "`tokenizer.chat_template`, or pass chat=False, which writes turns as plain text (`User: ...`)."
        )


def template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """What to call the template of a tokenizer.

    Args:
        tokenizer: The tokenizer.

    Returns:
        The last part of the name of its model.
    """
    return str(tokenizer.name_or_path).rstrip("/\\").replace("\\", "/").rpartition("/")[2] or "the tokenizer"


def written(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], chat: Chat, *, prompt: bool = False) -> str:
    """Write messages by the template.

    Args:
        tokenizer: A tokenizer with a template.
        messages: Some of the messages of a chat.
        chat: The chat, which has tools and variables.
        prompt: Whether to end with what begins an assistant turn.

    Returns:
        The text, special tokens included.

    Raises:
        CorpusError: The template refuses the messages.
    """
    turns = [dict(one) for one in messages]
    how: dict[str, Any] = {"tools": chat.tools, "add_generation_prompt": prompt} | dict(chat.settings)
    try:
        return cast(str, tokenizer.apply_chat_template(turns, tokenize=False, **how))
    except Exception as error:  # Templates are programs, which raise whatever they like.
        raise CorpusError(
            f"The chat template of {template_name(tokenizer)} refuses a chat with the roles "
            f"{', '.join(str(one['role']) for one in turns)}: {error} Change the rows, or pass chat=False."
        ) from error


def encoded_chat(chat: Chat, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Turn a chat into token ids by the template, and find its answers.

    Args:
        chat: The chat.
        tokenizer: A tokenizer with a template.

    Returns:
        The ids, and which of them are of assistant turns, or of the completion where the chat has a prompt.
    """
    if chat.given is None and tokenizer.is_fast and GENERATION.search(_source(tokenizer, chat.tools)):
        return _marked(chat, tokenizer)
    whole = written(tokenizer, chat.messages, chat)
    if chat.given is not None:
        spans = [(written(tokenizer, chat.messages[: chat.given], chat, prompt=True), whole)]
    else:
        spans = [_span(number, whole, chat, tokenizer) for number in range(len(chat.messages)) if chat.is_answer(number)]
    return _between(whole, spans, tokenizer)


def encoded_pieces(pieces: Sequence[tuple[str, bool]], tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Turn plain text, some pieces of which are answers, into token ids without special tokens.

    Args:
        pieces: Texts that follow each other, each with whether it is an answer.
        tokenizer: The tokenizer.

    Returns:
        The ids of the whole text. A token over the beginning of an answer belongs to it; one over its end does not.
    """
    whole, spans = "", []
    for text, is_answer in pieces:
        if is_answer:
            spans.append((whole, whole + text))
        whole += text
    return _between(whole, spans, tokenizer)


def _source(tokenizer: PreTrainedTokenizerBase, tools: list[Any] | None) -> str:
    """The template that is used, of which there may be another with tools."""
    return str(tokenizer.get_chat_template(None, tools))


def _marked(chat: Chat, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """A chat by a template that marks what is generated."""
    written(tokenizer, chat.messages, chat)
    found = tokenizer.apply_chat_template(
        [dict(one) for one in chat.messages],
        tools=chat.tools,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **dict(chat.settings),
    )
    content = cast(Mapping[str, list[int]], found)
    return list(content["input_ids"]), list(map(bool, content["assistant_masks"]))


def _span(number: int, whole: str, chat: Chat, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The text before an answer, and the text up to its end, both beginnings of the whole."""
    before = written(tokenizer, chat.messages[:number], chat, prompt=True) if number else ""
    up_to = written(tokenizer, chat.messages[: number + 1], chat)
    if number and whole.startswith(before) and whole.startswith(up_to):
        return before, up_to
    return _span_of_content(number, whole, before, chat, tokenizer)


def _span_of_content(number: int, whole: str, before: str, chat: Chat, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The same where a template writes a turn in another way once others follow: by what changes with its content.

    What the template puts after the content of a last turn belongs to the answer, if it stands there in the whole chat too.
    """
    message = {key: value for key, value in chat.messages[number].items() if key in ("role", "content")}
    other = {**message, "content": STANDS_FOR_ANY}
    changed = written(tokenizer, (*chat.messages[:number], other, *chat.messages[number + 1 :]), chat)
    start, end = _common(whole, changed), len(whole) - _common(whole[::-1], changed[::-1])
    last = written(tokenizer, (*chat.messages[:number], other), chat)
    closing = last.rpartition(STANDS_FOR_ANY)[2]
    common = _common(whole[end:], closing)
    begins = len(before) if whole.startswith(before) and before and len(before) <= start else start
    return whole[:begins], whole[: max(begins, end + common)]


def _between(whole: str, spans: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Token ids of a text, and which of them lie after one beginning of it and before another."""
    texts = [whole, *(text for span in spans for text in span)]
    ids, *beginnings = cast(list[list[int]], tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
    answers = [False] * len(ids)
    for start, end in zip(beginnings[::2], beginnings[1::2], strict=True):
        last = _common(end, ids)
        for position in range(_common(start, ids), last):
            answers[position] = True
    return ids, answers


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items two sequences begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
