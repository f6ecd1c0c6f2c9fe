"""Chats as a tokenizer's template writes them, and which of their tokens are answers.

A template with `{% generation %}` marks says itself what an assistant turn is. With any other, the answer of a turn is what it
adds to everything before it: the chat up to and with the turn, less the chat before it with the prompt to generate.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
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
Span = tuple[int, int]
"""The first character of a part of a text, and the first one after it."""


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
        return _after(whole, written(tokenizer, chat.messages[: chat.given], chat, prompt=True), tokenizer)
    spans = [_span(number, whole, chat, tokenizer) for number in range(len(chat.messages)) if chat.is_answer(number)]
    return _within(whole, spans, tokenizer)


def encoded_pieces(pieces: Sequence[tuple[str, bool]], tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Turn plain text, some pieces of which are answers, into token ids without special tokens.

    Args:
        pieces: Texts that follow each other, each with whether it is an answer.
        tokenizer: The tokenizer.

    Returns:
        The ids of the whole text. A token over the beginning or the end of an answer belongs to it.
    """
    whole, spans = "", []
    for text, is_answer in pieces:
        if is_answer:
            spans.append((len(whole), len(whole) + len(text)))
        whole += text
    return _within(whole, spans, tokenizer)


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


def _span(number: int, whole: str, chat: Chat, tokenizer: PreTrainedTokenizerBase) -> Span:
    """Where the answer of one message begins and ends in the whole chat."""
    before = written(tokenizer, chat.messages[:number], chat, prompt=True) if number else ""
    up_to = written(tokenizer, chat.messages[: number + 1], chat)
    if number and whole.startswith(before) and whole.startswith(up_to):
        return len(before), len(up_to)
    return _span_of_content(number, whole, before, chat, tokenizer)


def _span_of_content(number: int, whole: str, before: str, chat: Chat, tokenizer: PreTrainedTokenizerBase) -> Span:
    """The same where a template writes a turn in another way once others follow: by what changes with its content.

    What the template puts after the content of a last turn belongs to the answer, if it stands there in the whole chat too, and
    otherwise the special token that follows.
    """
    other = {"role": chat.messages[number]["role"], "content": STANDS_FOR_ANY}
    changed = written(tokenizer, (*chat.messages[:number], other, *chat.messages[number + 1 :]), chat)
    start, end = _common(whole, changed), len(whole) - _common(whole[::-1], changed[::-1])
    closing = written(tokenizer, (*chat.messages[:number], other), chat).rpartition(STANDS_FOR_ANY)[2]
    after = end + _common(whole[end:], closing)
    for first, last in _added_tokens(whole, end, tokenizer):
        # The next turn may begin like the end of a last one, but only with a part of a token.
        if first < after < last or first == end == after:
            after = last if first == end else first
    prompted = number > 0 and whole.startswith(before) and len(before) <= start
    return (len(before) if prompted else start), max(start, after)


def _added_tokens(text: str, start: int, tokenizer: PreTrainedTokenizerBase) -> Iterator[Span]:
    """Where tokens that were added to the vocabulary, such as those that end a turn, stand from some character on."""
    contents = sorted((token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    for match in re.compile("|".join(map(re.escape, contents)) or r"(?!)").finditer(text, start):
        yield match.span()


def _after(whole: str, prompt: str, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Token ids of a text, and which of them the tokens of its beginning do not have."""
    ids, given = cast(list[list[int]], tokenizer([whole, prompt], add_special_tokens=False, verbose=False)["input_ids"])
    common = _common(given, ids)
    return ids, [False] * common + [True] * (len(ids) - common)


def _within(whole: str, spans: Sequence[Span], tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Token ids of a text, and which of them lie in some spans of it."""
    if not tokenizer.is_fast:
        return _within_by_beginnings(whole, spans, tokenizer)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    places = cast(list[Span], encoded["offset_mapping"])
    answers = [any(first < end and last > start for start, end in spans) for first, last in places]
    return list(cast(list[int], encoded["input_ids"])), answers


def _within_by_beginnings(whole: str, spans: Sequence[Span], tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """The same by a tokenizer that does not say where a token stands: by what the text has in common with its beginnings."""
    texts = [whole, *(whole[:end] for span in spans for end in span)]
    ids, *beginnings = cast(list[list[int]], tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
    answers = [False] * len(ids)
    for start, end in zip(beginnings[::2], beginnings[1::2], strict=True):
        for position in range(_common(start, ids), _common(end, ids)):
            answers[position] = True
    return ids, answers


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items two sequences begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
