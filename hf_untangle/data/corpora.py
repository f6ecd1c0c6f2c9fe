"""A corpus: any number of documents from anywhere, parted into train, validation and test."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.data.catalogue import CORPORA, OWN
from hf_untangle.data.documents import ChatMode, Document, Part, Side
from hf_untangle.data.endless_streams import filled, found_in, sought
from hf_untangle.data.files import check_files, exists, file_documents, may_be_a_path, split_column
from hf_untangle.data.hub import hub_documents, hub_rows
from hf_untangle.data.opening import kind_of
from hf_untangle.data.row_formats import Kind, Shape
from hf_untangle.data.rows import Rows, documents_of, filled_rows, find_shape
from hf_untangle.data.splits import PARTS, own_parts, part_of, parted
from hf_untangle.data.table_files import TABLE_READERS, table_rows
from hf_untangle.data.tables import Replayed, Table, checked_texts, opened_table, several
from hf_untangle.display import fields_repr
from hf_untangle.errors import CorpusError
from hf_untangle.hub.reachable import hub_is_reachable

logger = logging.getLogger("hf_untangle")

Origin = Literal["embedded", "hub", "file", "dataset", "strings", "several", "self"]
Prefer = Literal["auto", "hub", "embedded"]
Reader = Callable[[], Iterator[str | Document]]
"""Reads documents lazily, from the beginning every time it is called."""
ALL = "all"
"""The split in which every part has all rows."""


@checked_calls
@dataclass(frozen=True)
class Corpus:
    """Documents that can be read again and again, and where they come from."""

    name: str
    """Short: `code`, `notes.jsonl`."""
    origin: Origin
    """What kind of place the documents come from."""
    source: str
    """Where the documents come from, as a model card prints it."""
    license: str
    """SPDX-like license, or "unknown"."""
    read: Reader
    """Reads all documents."""
    kind: Kind = "text"
    """What one document is called."""
    chat: ChatMode = "auto"
    """Whether documents pass through the chat template of the tokenizer."""
    own: Mapping[Part, Reader] = field(default_factory=dict)
    """Reads the parts, where the data set has splits of its own, or says how they are drawn."""
    whole: bool = False
    """Whether every part has all documents, so that a model is judged on the very rows that it is to forget."""
    two_sided: bool = False
    """Whether some documents are to forget and others to retain, as in a preference data set."""
    side: Side | None = None
    """Which of them are read; those to retain when None."""
    members: tuple["Corpus", ...] = ()
    """The corpora that this one is made of, each of which gives as many tokens."""
    rows: Rows | None = None
    """Reads the rows that documents are made of, where it is one table: they may say more, such as wrong answers."""
    __repr__ = fields_repr

    def examples(self, part: Part) -> Iterator[Document]:
        """Read the documents of one part, with what is a prompt in them and what an answer.

        Args:
            part: The part; see `parted`.

        Yields:
            Its documents in the order of the corpus, blank ones and those of the other side left out.
        """
        side = (self.side or "retain") if self.two_sided else None
        yield from sought(self._of(part), lambda one: side in (None, one.side), f"a document to {side}")

    def documents(self, part: Part) -> Iterator[str]:
        """Read the documents of one part as plain text.

        Args:
            part: The part; see `parted`.

        Yields:
            The text of each in the order of the corpus, blank ones left out; of several corpora one after the other.
        """
        for one in self.members or (self,):
            yield from (document.text for document in one.examples(part))

    def _of(self, part: Part) -> Iterator[Document]:
        """The documents of a part, of whatever side."""
        if self.whole:
            yield from filled(self.read())
        elif self.own:
            yield from self._of_train(part) if part == "train" or part not in self.own else filled(self.own[part]())
        elif self.origin in ("hub", "embedded"):
            yield from found_in(((part_of(one.key), one) for one in filled(self.read())), part)
        else:
            yield from found_in(parted(filled(self.read())), part)

    def _of_train(self, part: Part) -> Iterator[Document]:
        """The documents of a part that are in the split to train on, which gives some to parts without a split."""
        among: list[Part] = [one for one in PARTS if one == "train" or one not in self.own]
        return found_in(parted(filled(self.own["train"]()), among), part)


CorpusSource = str | Path | Corpus | Mapping[str, Any] | Iterable[Any]
"""Whatever `corpus` makes a corpus of: a name, a path, a data set, rows, texts, splits of these, or several of them."""


@checked_arguments
def corpus(  # noqa: PLR0913 (one parameter for each thing that can be said about a data set)
    source: CorpusSource,
    *,
    column: str | None = None,
    name: str | None = None,
    split: str | None = None,
    group: str | None = None,
    chat: ChatMode | None = None,
    side: Side | None = None,
    prefer: Prefer = "auto",
) -> Corpus:
    """Open a corpus.

    Rows are taken as they are, with the columns of trl's data set types: texts, chats, prompts with completions, preferences,
    or token ids; see `docs/how-to/data.md`. Nothing but what is needed to check the source is read here; documents are read
    when they are asked for.

    Args:
        source: A name of `CORPORA`; `self` to retain text that the model writes itself; a file or folder (txt, md, py, jsonl,
            json, csv, parquet), with `data.csv:column` naming a column; a `datasets.Dataset` or `IterableDataset`, a
            DataFrame, or any iterable of rows (mappings) or of strings, one-shot iterators included; a `DatasetDict` or
            another mapping with splits `train`, `validation` and `test`; a list of several of these; or a corpus.
        column: The column that holds the texts or the chats. Found when there is one that clearly does.
        name: What to call the corpus in reports.
        split: `all`, in which every part has all rows; otherwise the one split of several to take, or another split of a
            named corpus than its usual one.
        group: A column, such as `author`: rows with equal values in it are never in two parts.
        chat: Whether rows pass through the model's chat template: True, False, or "auto", where they are chats, or prompts
            with completions and there is a template.
        side: Which rows of a preference data set to read: those to `forget` (`rejected`, label False) or to `retain`
            (`chosen`, label True), which is also what None means.
        prefer: Where to take a named corpus from: the Hub when it answers and the embedded form otherwise
            ("auto"), or always one of them.

    Returns:
        The corpus.

    Raises:
        CorpusError: The name is unknown, the file is missing, empty or of an unknown kind, the rows have no shape that is
            understood, the column or split is not there, or a named corpus is out of reach.
    """
    opened = _open(source, column, split, group, prefer)
    if side is not None and not opened.two_sided:
        raise CorpusError(f"Only preference data sets have sides, and `{opened.name}` is none. Leave out side=`{side}`.")
    said = {"name": name, "chat": chat, "side": side}
    changes = {key: value for key, value in said.items() if value is not None}
    changed = replace(opened, **changes) if changes else opened
    if chat is None or not opened.members:
        return changed
    return replace(changed, members=tuple(replace(one, chat=chat) for one in opened.members))


def _open(source: CorpusSource, column: str | None, split: str | None, group: str | None, prefer: Prefer) -> Corpus:
    """Open a corpus of any kind."""
    whole = split == ALL
    if isinstance(source, str) and source == OWN:
        return Corpus(OWN, OWN, "text that the model writes itself", "unknown", _not_written)
    if isinstance(source, str) and source in CORPORA:
        if group is not None:
            raise CorpusError(f"Named corpora have no groups. Leave out group=`{group}`, or load `{source}` yourself.")
        return replace(_named(source, column, None if whole else split, prefer), whole=whole)
    if isinstance(source, Corpus):
        return _again(source, column, split, group)
    if isinstance(source, Mapping):
        return _from_splits(source, column, split, group)
    if split is not None and not whole:
        raise CorpusError(f"Only named corpora on the Hub, and mappings of splits, have splits. Leave out split=`{split}`.")
    if isinstance(source, str | Path):
        return replace(_from_files(source, column, group), whole=whole)
    return replace(_from_memory(source, column, group, whole, prefer), whole=whole)


def _not_written() -> Iterator[str]:
    """Refuse to read what no model has written yet."""
    raise CorpusError(
        "The corpus `self` is written by a model, which `unlearn` and `prune` let theirs do. Elsewhere, pass what "
        "`untangle.evaluation.own_text(model, tokenizer)` gives."
    )


def _from_memory(source: Iterable[Any], column: str | None, group: str | None, whole: bool, prefer: Prefer) -> Corpus:
    """Open several corpora, rows, or strings."""
    source = Replayed(source) if isinstance(source, Iterator) else source
    if (table := opened_table(source)) is not None:
        return _from_table(table, column, group)
    if column is not None or group is not None:
        raise CorpusError(f"Only tables have columns, and this is not one. Leave out column=`{column or group}`.")
    if (sources := several(source)) is not None:
        return together([_open(one, None, ALL if whole else None, None, prefer) for one in sources])
    return Corpus("strings", "strings", "strings that were passed in", "unknown", checked_texts(source))


def with_chat(opened: Corpus, chat: ChatMode) -> Corpus:
    """Say how rows are written, for corpora that do not say so themselves.

    Args:
        opened: A corpus.
        chat: Whether rows pass through the chat template.

    Returns:
        The corpus, or each of several.
    """
    members = tuple(with_chat(one, chat) for one in opened.members)
    return replace(opened, members=members, chat=chat if opened.chat == "auto" else opened.chat)


def together(corpora: list[Corpus]) -> Corpus:
    """Take several corpora for one, of which each gives as many tokens.

    Args:
        corpora: Them.

    Returns:
        One corpus; names that occur twice are numbered.
    """
    members = distinct([inner for one in corpora for inner in (one.members or (one,))])
    if len(members) == 1:
        return members[0]

    def read() -> Iterator[str | Document]:
        for one in members:
            yield from one.read()

    licenses = dict.fromkeys(one.license for one in members)
    names, sources = (" + ".join(getattr(one, what) for one in members) for what in ("name", "source"))
    return Corpus(names, "several", sources, ", ".join(licenses), read, members=tuple(members))


def distinct(corpora: list[Corpus]) -> list[Corpus]:
    """Number the names of corpora that would otherwise have the same.

    Args:
        corpora: Any corpora.

    Returns:
        The same, in order, no two of one name.
    """
    names = [one.name for one in corpora]
    seen: dict[str, int] = {}
    renamed = []
    for one in corpora:
        seen[one.name] = seen.get(one.name, 0) + 1
        renamed.append(one if names.count(one.name) == 1 else replace(one, name=f"{one.name} ({seen[one.name]})"))
    return renamed


def _again(opened: Corpus, column: str | None, split: str | None, group: str | None) -> Corpus:
    """Change what can be changed of a corpus that is open already."""
    if column is not None or group is not None or split not in (None, ALL):
        raise CorpusError(f"`{opened.name}` is open already: name its column, split and group where it is opened.")
    if split is None or opened.whole:
        return opened
    return replace(opened, members=tuple(_again(one, None, split, None) for one in opened.members), whole=True)


def _named(name: str, column: str | None, split: str | None, prefer: Prefer) -> Corpus:
    """Open a named corpus on the Hub or in its embedded form, and say which."""
    entry = CORPORA[name]
    entry = replace(entry, columns=(column,) if column else entry.columns, split=split or entry.split)
    rows = None if entry.columns else partial(hub_rows, name, entry)
    if prefer != "embedded" and entry.repository and hub_is_reachable():
        read = partial(hub_documents, name, entry)
        opened = Corpus(name, "hub", entry.place, entry.license, read, entry.kind, rows=rows)
    elif prefer != "hub" and (own := entry.embedded) and not (column or split):
        kind = "text" if own.rows is None else entry.kind
        opened = Corpus(name, "embedded", own.source, own.license, own.read, kind, own=own.parts, rows=own.rows)
    elif entry.repository is None:
        raise CorpusError(
            f"The corpus `{name}` is in this package alone, and has no other columns or splits. Leave out column=, split= "
            'and prefer="hub".'
        )
    else:
        raise CorpusError(
            f"The corpus `{name}` has to come from {entry.place} on the Hub, which does not answer or "
            "is switched off (HF_HUB_OFFLINE, prefer). Connect to the Hub or pass a file of your own."
        )
    logger.info("Corpus `%s` is taken from %s (%s).", name, opened.source, opened.origin)
    return opened


def _from_files(source: str | Path, column: str | None, group: str | None) -> Corpus:
    """Open a file or a folder."""
    if isinstance(source, str) and not may_be_a_path(source):
        near = ", ".join(get_close_matches(source, CORPORA, n=3, cutoff=0.4) or CORPORA)
        raise CorpusError(f"There is no corpus named `{source:.60}`, and no file either. Did you mean {near}?")
    path, named_column = split_column(source)
    if named_column and column and named_column != column:
        raise CorpusError(f"`{source}` names a column, and column=`{column}` names another. Name one.")
    column = column or named_column
    shape = check_files(path, column, group)
    read = partial(file_documents, path, column, group)
    opened = Corpus(path.resolve().name, "file", str(path), "unknown", read)
    rows = partial(table_rows, path) if kind_of(path) in TABLE_READERS and exists(path) else None
    return opened if shape is None else _of_shape(opened, shape, rows)


def _from_table(table: Table, column: str | None, group: str | None) -> Corpus:
    """Open rows that the caller has loaded."""
    shape = find_shape(table.rows, column, group, table.name)
    read = partial(documents_of, table.rows, shape, group, table.name)
    opened = Corpus(table.name, "dataset", table.source, table.license, read)
    return _of_shape(opened, shape, table.rows)


def _of_shape(opened: Corpus, shape: Shape, rows: Rows | None) -> Corpus:
    """A corpus with what its rows are; rows of pairs may say more than documents do."""
    whole = None if rows is None or shape.kind != "pair" or shape.two_sided else partial(filled_rows, rows, shape, opened.name)
    return replace(opened, kind=shape.kind, two_sided=shape.two_sided, rows=whole)


def _from_splits(parts: Mapping[str, Any], column: str | None, split: str | None, group: str | None) -> Corpus:
    """Open a data set that has splits of its own, or one of them."""
    if split is not None and split != ALL:
        if split not in parts:
            raise CorpusError(f"The splits are {', '.join(f'`{one}`' for one in parts)}, but split=`{split}` was asked for.")
        return _open(parts[split], column, None, group, "auto")
    names = own_parts(parts, "splits")
    opened: dict[Part, Corpus] = {part: _open(parts[name], column, None, group, "auto") for part, name in names.items()}
    train = opened["train"]
    if len({(one.kind, one.two_sided) for one in opened.values()}) > 1:
        kinds = ", ".join(f"`{names[part]}`: {one.kind}" for part, one in opened.items())
        raise CorpusError(f"All splits must hold rows of one shape, but these do not ({kinds}).")

    def read() -> Iterator[str | Document]:
        for one in opened.values():
            yield from one.read()

    own = {part: one.read for part, one in opened.items()}
    return replace(train, source=f"{train.source} (splits {', '.join(names.values())})", read=read, own=own, whole=split == ALL)
