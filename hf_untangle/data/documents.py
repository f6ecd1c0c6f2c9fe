"""What a corpus is made of: texts, prompts with their completions, chats, and rows of token ids."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hf_untangle.arguments import checked_calls
from hf_untangle.display import fields_repr

Message = Mapping[str, Any]
"""One turn of a chat: `role`, `content`, and whatever else the template of a model reads, such as `tool_calls`."""
ChatMode = Literal["auto"] | bool
"""Whether rows pass through the chat template of the tokenizer: always (True), never (False), or where they are chats, or
prompts with completions and the tokenizer has a template ("auto")."""
Side = Literal["forget", "retain"]
"""Which use a row of a preference data set is for: `rejected` and label False are to forget, `chosen` and True to retain."""
Part = Literal["train", "validation", "test"]
IGNORED = -100
"""Label of what a loss leaves out."""


@checked_calls
@dataclass(frozen=True)
class Pair:
    """A prompt with its completion, both plain text."""

    prompt: str
    answer: str
    system: str | None = None
    """What a chat template is to put before the prompt as a system message."""
    joined: bool = False
    """Whether plain text has a space between the two where neither has white space there; otherwise they stand as they are."""

    def text(self) -> str:
        """The whole of it, as plain text without special tokens."""
        return "".join(text for text, _ in self.pieces())

    def pieces(self) -> list[tuple[str, bool]]:
        """The plain text in pieces, each with whether it is an answer; a space that joins the two belongs to the answer."""
        before = f"{self.system}\n\n{self.prompt}" if self.system else self.prompt
        apart = not self.joined or not before or not self.answer or before[-1].isspace() or self.answer[0].isspace()
        return [(before, False), (("" if apart else " ") + self.answer, True)]

    def messages(self) -> tuple[Message, ...]:
        """The same as turns of a chat."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return (*system, {"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.answer})


@checked_calls
@dataclass(frozen=True)
class Chat:
    """A conversation."""

    messages: tuple[Message, ...]
    given: int | None = None
    """How many of the messages are the prompt, all others being the completion; every assistant turn is an answer when None."""
    tools: list[Any] | None = None
    """Schemas of the tools that the template shows to the model."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Other variables that the template reads, such as `enable_thinking`."""
    __repr__ = fields_repr

    def is_answer(self, number: int) -> bool:
        """Tell whether a message is what the model should write.

        Args:
            number: Which, from 0.

        Returns:
            True for assistant turns, or for everything after the prompt where there is one.
        """
        return self.messages[number]["role"] == "assistant" if self.given is None else number >= self.given

    def text(self) -> str:
        """The whole of it, as plain text: turns like `User: ...`, with an empty line between them."""
        return "".join(text for text, _ in self.turns())

    def turns(self) -> list[tuple[str, bool]]:
        """The plain text in pieces, each with whether it is an answer."""
        pieces: list[tuple[str, bool]] = []
        for number, message in enumerate(self.messages):
            before = "\n\n" if number else ""
            head, content = f"{before}{str(message['role']).capitalize()}: ", spoken(message)
            pieces += [(head, False), (content, True)] if self.is_answer(number) else [(head + content, False)]
        return pieces


@checked_calls
@dataclass(frozen=True)
class Tokens:
    """A row that was tokenized before."""

    ids: tuple[int, ...]
    answers: tuple[bool, ...] | None = None
    """Which of the tokens are to be predicted; all of them when None."""
    __repr__ = fields_repr

    def text(self) -> str:
        """The token ids as words, by which copies of a row are known."""
        return " ".join(map(str, self.ids))


Content = str | Pair | Chat | Tokens


@checked_calls
@dataclass(frozen=True)
class Document:
    """One row of a data set, with what says where it belongs."""

    content: Content
    key: str
    """What its part follows from: documents of one key are never in two parts."""
    side: Side | None = None
    """Its use, where rows of one data set have two."""
    __repr__ = fields_repr

    @property
    def text(self) -> str:
        """Its plain text."""
        return self.content if isinstance(self.content, str) else self.content.text()

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing in it that could be learnt or predicted."""
        content = self.content
        if isinstance(content, Chat):
            return not any(spoken(one).strip() for number, one in enumerate(content.messages) if content.is_answer(number))
        return not (content.answer if isinstance(content, Pair) else self.text).strip()


def as_document(item: str | Document) -> Document:
    """Take a text for a document.

    Args:
        item: A text, or a document, which is given back as it is.

    Returns:
        The document. The part of a text follows from the text itself.
    """
    return item if isinstance(item, Document) else Document(item, item)


def spoken(message: Message) -> str:
    """What a message says, as plain text.

    Args:
        message: The message.

    Returns:
        Its content, with its tool calls as JSON where there are some.
    """
    said = [str(message.get("content") or "")]
    calls = message.get("tool_calls")
    return "\n".join(filter(None, [*said, json.dumps(calls, ensure_ascii=False, default=str) if calls else ""]))
