"""The shapes of rows that are understood: which columns make a text, a chat, a prompt with its completion, or token ids.

The columns are those of trl's data set types (https://huggingface.co/docs/trl/dataset_formats), and what else is usual.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from hf_untangle.data.chat_turns import chat_messages, is_chat
from hf_untangle.data.documents import IGNORED, Chat, Content, Message, Pair, Side, Tokens
from hf_untangle.errors import CorpusError

Row = Mapping[str, Any]
"""One row of a table, by column name."""
Kind = Literal["text", "chat", "pair", "tokenized row"]
"""What one document of a shape is called."""

CHATS = ("messages", "conversations", "conversation")
PROMPTS = ("prompt", "question", "instruction", "query")
ANSWERS = ("completion", "answer", "output", "response", "gt")
ASKED = ("question", *PROMPTS)
"""The same where there are choices: a set that has both a question and a prompt lists the choices in the prompt."""
MASKS = ("completion_mask", "assistant_masks", "assistant_mask")
Read = Callable[[Row, str], Iterator[tuple[Content, Side | None]]]
"""Makes documents of a row, which is called by its second argument in errors."""


@dataclass(frozen=True)
class Shape:
    """One way in which columns make documents."""

    kind: Kind
    columns: tuple[str, ...]
    """The columns that are read and must be filled."""
    read: Read
    two_sided: bool = False
    """Whether rows say which of them are to forget and which to retain."""
    parted_by: tuple[str, ...] = ()
    """Columns that the part of a row follows from, where not all of a document says it: a prompt must not be in two parts."""


ACCEPTED = (
    "`text`; `messages` or `conversations`; `prompt` + `completion` (+ `label`, true or false); `question` + `answer`; "
    "`instruction` (+ `input`) + `output`; `prompt` + `chosen` + `rejected`; "
    "or `input_ids` (+ `labels`, `completion_mask` or `assistant_masks`)"
)
"""The shapes in words, for errors."""


def shape_of(sample: list[Row]) -> Shape | None:
    """Find out which shape rows have, other than plain text.

    Args:
        sample: The first rows of a table.

    Returns:
        The shape, or None where no columns but texts are known.
    """
    for look in (_tokenized, _chat, _preference, _choice, _pair):
        shape = look(sample)
        if shape is not None:
            return shape
    return None


def chat_column(column: str, row: Row) -> Shape:
    """Make a shape of a column of chats.

    Args:
        column: The column.
        row: A row, which says whether the data set has a system prompt or tools of its own.

    Returns:
        The shape.
    """

    def read(row: Row, where: str) -> Iterator[tuple[Content, Side | None]]:
        yield Chat(_with_system(_turns(row, column, where), row), **_template_variables(row)), None

    return Shape("chat", (column,), read)


def _tokenized(sample: list[Row]) -> Shape | None:
    """Token ids, with labels or masks that say what is to be predicted."""
    if not _filled(sample, "input_ids", lambda ids: _is_list(ids) and all(isinstance(one, int) for one in ids)):
        return None
    columns = [name for name in ("labels", *MASKS) if _filled(sample, name, _is_list)]

    def read(row: Row, where: str) -> Iterator[tuple[Content, Side | None]]:
        yield _tokens(row, columns, where), None

    return Shape("tokenized row", ("input_ids", *columns), read)


def _tokens(row: Row, columns: list[str], where: str) -> Tokens:
    """Read one row of token ids, padding left out."""
    ids = list(row["input_ids"])
    masks = [[label != IGNORED for label in row[name]] if name == "labels" else list(map(bool, row[name])) for name in columns]
    real = list(map(bool, row["attention_mask"])) if row.get("attention_mask") is not None else [True] * len(ids)
    if any(len(mask) != len(ids) for mask in (*masks, real)):
        raise CorpusError(f"Labels and masks must have one value per token, but {where} has {len(ids)} `input_ids` and others.")
    answers = [all(bits) for bits in zip(*masks, strict=True)] if masks else [True] * len(ids)
    kept = [number for number, there in enumerate(real) if there]
    return Tokens(tuple(ids[one] for one in kept), tuple(answers[one] for one in kept) if masks else None)


def _chat(sample: list[Row]) -> Shape | None:
    """A column of conversations."""
    column = next((name for name in CHATS if _filled(sample, name, is_chat)), None)
    return None if column is None else chat_column(column, sample[0])


def _preference(sample: list[Row]) -> Shape | None:
    """Two answers of which one is preferred, with the prompt or with the prompt inside both of them."""
    texts = all(_filled(sample, name, _is_text) for name in ("chosen", "rejected"))
    chats = all(_filled(sample, name, is_chat) for name in ("chosen", "rejected"))
    if not (texts or chats):
        return None
    prompted = _filled(sample, "prompt", _is_text if texts else is_chat)

    def read(row: Row, where: str) -> Iterator[tuple[Content, Side | None]]:
        if texts:
            prompt, chosen, rejected = _prompt_of_texts(row, prompted)
        else:
            prompt, chosen, rejected = _prompt_of_chats(row, prompted, where)
        yield _completed(prompt, chosen, row), "retain"
        yield _completed(prompt, rejected, row), "forget"

    answers = ("chosen", "rejected")
    if not prompted:
        return Shape("pair", answers, read, two_sided=True, parted_by=answers)
    return Shape("pair", ("prompt", *answers), read, two_sided=True, parted_by=("prompt",))


def _prompt_of_texts(row: Row, prompted: bool) -> tuple[str, str, str]:
    """The prompt and what follows it in both answers; without a column of prompts, all that both begin with."""
    chosen, rejected = row["chosen"], row["rejected"]
    if prompted:
        return row["prompt"], chosen, rejected
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    start = chosen[:common].rfind(" ") if common else 0
    return chosen[: max(0, start)], chosen[max(0, start) :], rejected[max(0, start) :]


def _prompt_of_chats(row: Row, prompted: bool, where: str) -> tuple[tuple[Message, ...], ...]:
    """The same of chats, turn by turn."""
    chosen, rejected = (_turns(row, column, where) for column in ("chosen", "rejected"))
    if prompted:
        return _turns(row, "prompt", where), chosen, rejected
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    common = min(common, len(chosen) - 1, len(rejected) - 1)
    return chosen[:common], chosen[common:], rejected[common:]


def _pair(sample: list[Row]) -> Shape | None:
    """A prompt with its completion, each text or turns, and maybe a label that says whether the completion is wanted."""
    prompt = next((name for name in PROMPTS if _filled(sample, name, _is_text) or _filled(sample, name, is_chat)), None)
    answer = next((name for name in ANSWERS if _filled(sample, name, _is_text) or _filled(sample, name, is_chat)), None)
    if prompt is None or answer is None:
        return None
    texts = _filled(sample, prompt, _is_text) and _filled(sample, answer, _is_text)
    chats = _filled(sample, prompt, is_chat) and _filled(sample, answer, is_chat)
    if not (texts or chats):
        return None
    labelled = _filled(sample, "label", lambda label: isinstance(label, bool))

    def read(row: Row, where: str) -> Iterator[tuple[Content, Side | None]]:
        side: Side | None = ("retain" if row["label"] else "forget") if labelled else None
        if chats:
            yield _completed(_turns(row, prompt, where), _turns(row, answer, where), row), side
        else:
            # A completion is written to follow its prompt as it stands; answers and outputs are not.
            yield Pair(_with_input(row, prompt), row[answer], _system(row), joined=answer != "completion"), side

    columns = (prompt, answer, "label") if labelled else (prompt, answer)
    return Shape("pair", columns, read, two_sided=labelled, parted_by=(prompt,) * labelled)


def _choice(sample: list[Row]) -> Shape | None:
    """A question with choices, and the number of the right one, from 0: a prompt with its completion."""
    prompt = next((name for name in ASKED if _filled(sample, name, _is_text)), None)
    rows = [row for row in sample if row.get("choices") is not None]
    if prompt is None or not rows or any(right_choice(row.get("answer"), row["choices"]) is None for row in rows):
        return None

    def read(row: Row, where: str) -> Iterator[tuple[Content, Side | None]]:
        right = right_choice(row["answer"], row["choices"])
        if right is None:
            raise CorpusError(f"An answer must be the number of one of the choices, from 0, but {where} has {row['answer']!r}.")
        yield Pair(row[prompt], right, _system(row), joined=True), None

    return Shape("pair", (prompt, "choices", "answer"), read)


def right_choice(answer: Any, choices: Any) -> str | None:
    """Find the choice that an answer is the number of.

    Args:
        answer: A number from 0, which public sets write as text too.
        choices: What there is to choose from.

    Returns:
        The choice; None where the answer is no number of one.
    """
    if isinstance(answer, str) and answer.isdigit() and answer not in choices:
        answer = int(answer)
    is_number = isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices)
    return choices[answer] if is_number else None


def _completed(prompt: Any, completion: Any, row: Row) -> Content:
    """A prompt with one completion: texts, or turns of a chat."""
    if isinstance(prompt, str):
        return Pair(prompt, completion, _system(row))
    messages = _with_system(prompt, row)
    return Chat((*messages, *completion), given=len(messages), **_template_variables(row))


def _with_input(row: Row, prompt: str) -> str:
    """An instruction with its input, where it has one."""
    more = row.get("input") if prompt == "instruction" else None
    return f"{row[prompt]}\n{more}" if isinstance(more, str) and more.strip() else row[prompt]


def _system(row: Row) -> str | None:
    """The system prompt of a row, where it has a column for it."""
    system = row.get("system")
    return system if isinstance(system, str) and system.strip() else None


def _with_system(messages: tuple[Message, ...], row: Row) -> tuple[Message, ...]:
    """Turns with the system prompt of their row before them, where they have none themselves."""
    system = _system(row)
    if system is None or any(message["role"] == "system" for message in messages):
        return messages
    return ({"role": "system", "content": system}, *messages)


def _template_variables(row: Row) -> dict[str, Any]:
    """What a row hands to the template besides its messages."""
    tools = row.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) and tools.strip() else tools
    return {"tools": tools or None, "settings": dict(row.get("chat_template_kwargs") or {})}


def _turns(row: Row, column: str, where: str) -> tuple[Message, ...]:
    """The turns in a cell, which must be some."""
    if not is_chat(row[column]):
        raise CorpusError(
            f"A chat must be a list of turns with `role` and `content`, but {where} holds {type(row[column]).__name__} in "
            f"`{column}`: {row[column]!r:.80}."
        )
    return chat_messages(row[column], where)


def _filled(sample: list[Row], column: str, fits: Callable[[Any], bool]) -> bool:
    """Say whether a column is there, and all of its cells that are not empty fit."""
    cells = [row[column] for row in sample if row.get(column) is not None]
    return bool(cells) and all(map(fits, cells))


def _is_text(value: Any) -> bool:
    """Say whether a cell holds text."""
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    """Say whether a cell holds a list."""
    return isinstance(value, list | tuple)
