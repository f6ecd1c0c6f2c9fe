"""Questions: a prompt, the answer to it, and where there are some the same answer in other words, wrong answers, or choices."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_untangle.data.catalogue import CORPORA
from hf_untangle.data.chat_turns import is_chat
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.data.documents import Chat, Content, Message, Pair, as_document, spoken
from hf_untangle.data.files import exists
from hf_untangle.data.opening import kind_of
from hf_untangle.data.row_formats import ANSWERS, ASKED, PROMPTS, right_choice, shape_of
from hf_untangle.data.table_files import TABLE_READERS, table_rows
from hf_untangle.data.tables import opened_table
from hf_untangle.errors import CorpusError

NAMES = {
    "prompt": PROMPTS,
    "answer": ("answer", *ANSWERS),
    "paraphrase": ("paraphrase", "paraphrased_answer"),
    "wrong": ("wrong", "perturbed_answer"),
    "choices": ("choices",),
}
"""What each field may be called in a table; the later names are those of public sets."""


@dataclass(frozen=True)
class Question:
    """A prompt with what is known of its answer."""

    prompt: str
    """What the model is given, as plain text."""
    answer: str
    """What is right."""
    paraphrase: str | None = None
    """The right answer in other words."""
    wrong: tuple[str, ...] = ()
    """Answers of the same form that are wrong."""
    choices: tuple[str, ...] = ()
    """What there is to choose from, the right answer among it."""
    chat: Chat | None = None
    """The prompt as turns of a chat, where it was one or has a system prompt."""
    is_chat: bool = False
    """Whether the row was a chat, which needs a template unless it is to be plain text."""

    def turns(self, text: str | None = None) -> Chat:
        """The prompt as turns of a chat.

        Args:
            text: What to say in the last turn instead; its own words when None.

        Returns:
            A chat that ends with the turn before the answer.
        """
        chat = self.chat or Chat(({"role": "user", "content": self.prompt},))
        if text is None:
            return chat
        return replace(chat, messages=(*chat.messages[:-1], {**chat.messages[-1], "content": text}))


QuestionSource = str | Path | Corpus | Iterable[Any]


def questions(source: QuestionSource) -> tuple[Question, ...]:
    """Read questions.

    Args:
        source: A table (jsonl, json, csv, parquet), a dataset, a frame, mappings, a corpus or the name of one, such as
            `facts-forget`, or questions. Each row has `prompt`
            (or `question`, or `instruction` with `input`) and `answer` (or `completion`, `output`), or it is a chat, whose last
            assistant turn is the answer, or a preference, whose `rejected` is a wrong answer. It may have `paraphrase`, `wrong`
            (a list) and `choices` (a list, of which `answer` may be the number, from 0).

    Returns:
        All of them, in order.

    Raises:
        CorpusError: There are none, the file is missing or no table, or a row lacks what it must have.
    """
    name, rows = _opened(source)
    found = tuple(_question(row, number, name) for number, row in enumerate(rows))
    if not found:
        raise CorpusError(f"`{name}` has no rows. Pass at least one prompt with its answer.")
    return found


def _opened(source: QuestionSource) -> tuple[str, Iterator[Any]]:
    """What to call a source, and its rows."""
    if isinstance(source, str) and source in CORPORA:
        source = corpus(source)
    if isinstance(source, Corpus) and source.rows is not None:
        return source.name, source.rows()
    if isinstance(source, Corpus):
        side = (source.side or "retain") if source.two_sided else None
        documents = map(as_document, source.read())
        return source.name, (one.content for one in documents if side in (None, one.side))
    if not isinstance(source, str | Path):
        table = None if isinstance(source, list | tuple | Mapping | Iterator) else opened_table(source)
        return ("pairs", iter(source)) if table is None else (table.name, table.rows())
    path = Path(source)
    if kind_of(path) not in TABLE_READERS or not exists(path):
        raise CorpusError(f"Pairs must be in a table ({', '.join(TABLE_READERS)}), but there is none at `{source}`.")
    return path.name, table_rows(path)


def _question(row: Any, number: int, name: str) -> Question:
    """Make a question of one row."""
    where = f"row {number} of `{name}`"
    if isinstance(row, Question):
        return row
    if isinstance(row, Pair | Chat):
        return _of_content(row, where)
    if is_chat(row):
        row = {"messages": row}
    if not isinstance(row, Mapping):
        raise CorpusError(f"Pairs must be rows with `prompt` and `answer`, but {where} is a {type(row).__name__}.")
    names = NAMES if row.get("choices") is None else NAMES | {"prompt": ASKED}
    values = {field: next((row[alias] for alias in aliases if alias in row), None) for field, aliases in names.items()}
    if not isinstance(values["prompt"], str) or not isinstance(values["answer"], str | int):
        return _of_shape(row, where)
    choices = tuple(values["choices"] or ())
    answer = values["answer"]
    answer = right_choice(answer, choices) or answer
    if not isinstance(answer, str) or (choices and answer not in choices):
        raise _unreadable(row, where)
    asked = _of_content(Pair(_with_input(row, values["prompt"]), answer, row.get("system") or None), where)
    return replace(asked, paraphrase=values["paraphrase"], wrong=_texts(values["wrong"]), choices=choices)


def _of_shape(row: Mapping[str, Any], where: str) -> Question:
    """Make a question of a chat, of messages with a completion, or of a preference."""
    shape = shape_of([row])
    contents = [] if shape is None else [content for content, _ in shape.read(row, where)]
    if not contents or not isinstance(contents[0], Pair | Chat):
        raise _unreadable(row, where)
    first, *others = [_of_content(content, where) for content in contents]
    return replace(first, wrong=tuple(other.answer for other in others))


def _of_content(content: Content, where: str) -> Question:
    """Make a question of a prompt with its completion, or of a chat, whose last answer is asked for."""
    if isinstance(content, Pair):
        chat = Chat(content.messages()[:-1]) if content.system else None
        return Question(content.pieces()[0][0], content.answer, chat=chat)
    assert isinstance(content, Chat)
    answers = [number for number in range(len(content.messages)) if content.is_answer(number)]
    if not answers or not answers[-1] or not spoken(content.messages[answers[-1]]).strip():
        raise CorpusError(f"A chat must end with an answer to something, but {where} has no such assistant turn.")
    last = answers[-1] if content.given is None else content.given
    before: tuple[Message, ...] = content.messages[:last]
    text = Chat(before, given=len(before)).text() + "\n\nAssistant: "
    return Question(text, spoken(content.messages[last]), chat=replace(content, messages=before, given=None), is_chat=True)


def _with_input(row: Mapping[str, Any], prompt: str) -> str:
    """An instruction with its input, where it has one."""
    more = row.get("input") if "instruction" in row else None
    return f"{prompt}\n{more}" if isinstance(more, str) and more.strip() else prompt


def _unreadable(row: Mapping[str, Any], where: str) -> CorpusError:
    """What is said of a row that is no question."""
    return CorpusError(
        "A row must have a text `prompt` and a text `answer`, which is one of `choices` or its number where there are some, or "
        f"be a chat with an assistant turn, but {where} is {dict(row)!r:.200}."
    )


def _texts(value: Any) -> tuple[str, ...]:
    """One text or several, as several."""
    return (value,) if isinstance(value, str) else tuple(value or ())
