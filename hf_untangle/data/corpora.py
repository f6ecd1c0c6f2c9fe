"""A corpus: any number of documents from anywhere, parted into train, validation and test."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Literal, cast

from datasets import Dataset, IterableDataset

from hf_untangle.data.catalogue import CORPORA
from hf_untangle.data.files import check_files, exists, file_documents
from hf_untangle.data.hub import hub_documents, hub_is_reachable, hub_source
from hf_untangle.data.rows import Row, find_column, texts_of
from hf_untangle.errors import CorpusError

logger = logging.getLogger("hf_untangle")

Part = Literal["train", "validation", "test"]
Origin = Literal["embedded", "hub", "file", "dataset", "strings"]
Prefer = Literal["auto", "hub", "embedded"]


@dataclass(frozen=True)
class Corpus:
    """Documents that can be read again and again, and where they come from."""

    name: str
    """Short name: `code`, `notes.jsonl`, `strings`."""
    origin: Origin
    """What kind of place the documents come from."""
    source: str
    """Where the documents come from, as a model card prints it."""
    license: str
    """SPDX-like license, or "unknown"."""
    read: Callable[[], Iterator[str]]
    """Reads all documents lazily, from the beginning every time it is called."""

    def documents(self, part: Part) -> Iterator[str]:
        """Read the documents of one part.

        Args:
            part: The part; see `part_of`.

        Yields:
            Its documents in the order of the corpus, blank ones left out.
        """
        for document in self.read():
            if document.strip() and part_of(document) == part:
                yield document


CorpusSource = str | Path | Dataset | IterableDataset | Iterable[str] | Corpus


def corpus(
    source: CorpusSource,
    *,
    column: str | None = None,
    split: str | None = None,
    prefer: Prefer = "auto",
) -> Corpus:
    """Open a corpus.

    Nothing but what is needed to check the source is read here; documents are read when they are asked for.

    Args:
        source: A name of `CORPORA`; a file or folder (txt, md, py, jsonl, json, csv, parquet), with
            `data.csv:column` naming a column; a `datasets.Dataset` or `IterableDataset`; any iterable of
            strings, one-shot iterators included; or a corpus, which is given back as it is.
        column: The column that holds the text. Found when there is one that is clearly it.
        split: Another split of a named corpus than its usual one.
        prefer: Where to take a named corpus from: the Hub when it answers and the embedded form otherwise
            ("auto"), or always one of them.

    Returns:
        The corpus.

    Raises:
        CorpusError: The name is unknown, the file is missing, empty or of an unknown kind, the column is not
            there, or a named corpus is out of reach.
    """
    if isinstance(source, str) and source in CORPORA:
        return _named(source, column, split, prefer)
    if split is not None:
        raise CorpusError(f"Only named corpora on the Hub have splits. Leave out split=`{split}`.")
    if isinstance(source, str | Path):
        return _from_files(source, column)
    if isinstance(source, Dataset | IterableDataset):
        return _from_dataset(source, column)
    if column is not None:
        raise CorpusError(f"Only tables have columns, and this is not one. Leave out column=`{column}`.")
    return source if isinstance(source, Corpus) else _from_strings(source)


def part_of(document: str) -> Part:
    """Tell the part of a document: train 60%, validation 20%, test 20%.

    The part follows from a hash of the document's words alone. Copies of a document, also with other white
    space, therefore never stand in two parts, and a stream can be parted without an index.

    Args:
        document: The text of the document.

    Returns:
        The part that the document always belongs to.
    """
    words = " ".join(document.split())
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()
    fifth = int.from_bytes(digest[:8], "big") % 5
    return "train" if fifth < 3 else "validation" if fifth == 3 else "test"


def _named(name: str, column: str | None, split: str | None, prefer: Prefer) -> Corpus:
    """Open a named corpus on the Hub or in its embedded form, and say which."""
    entry = CORPORA[name]
    entry = replace(entry, columns=(column,) if column else entry.columns, split=split or entry.split)
    if prefer != "embedded" and hub_is_reachable():
        opened = Corpus(name, "hub", hub_source(entry), entry.license, partial(hub_documents, name, entry))
    elif prefer != "hub" and entry.embedded and not (column or split):
        opened = Corpus(name, "embedded", entry.embedded.source, entry.embedded.license, entry.embedded.read)
    else:
        raise CorpusError(
            f"The corpus `{name}` has to come from {hub_source(entry)} on the Hub, which does not answer or "
            "is switched off (HF_HUB_OFFLINE, prefer). Connect to the Hub or pass a file of your own."
        )
    logger.info("Corpus `%s` is taken from %s (%s).", name, opened.source, opened.origin)
    return opened


def _from_files(source: str | Path, column: str | None) -> Corpus:
    """Open a file or a folder."""
    if isinstance(source, str) and not _may_be_a_path(source):
        nearest = get_close_matches(source, CORPORA, n=3, cutoff=0.4) or list(CORPORA)
        raise CorpusError(f"There is no corpus named `{source:.60}`, and no file either. Did you mean {', '.join(nearest)}?")
    path, named_column = _split_column(source)
    if named_column and column and named_column != column:
        raise CorpusError(f"`{source}` names a column, and column=`{column}` names another. Name one.")
    column = column or named_column
    check_files(path, column)
    return Corpus(path.resolve().name, "file", str(path), "unknown", partial(file_documents, path, column))


def _split_column(source: str | Path) -> tuple[Path, str | None]:
    """Take `data.csv:column` apart; a path that exists as it is written has no column."""
    path, colon, column = str(source).rpartition(":")
    if not colon or exists(Path(source)) or not (Path(path).suffix or exists(Path(path))):
        return Path(source), None
    return Path(path), column


def _may_be_a_path(source: str) -> bool:
    """Tell a path, missing ones included, from a misspelt name."""
    return bool(source.strip()) and bool(Path(source).suffix) or any(mark in source for mark in "/\\:") or exists(Path(source))


def _from_dataset(dataset: Dataset | IterableDataset, column: str | None) -> Corpus:
    """Open a data set that the caller has loaded."""
    name = dataset.info.dataset_name or "dataset"

    def rows() -> Iterator[Row]:
        return cast(Iterator[Row], iter(dataset))

    columns = (find_column(rows, column, name),)
    source = f"{type(dataset).__name__} `{name}`"
    license = dataset.info.license or "unknown"
    return Corpus(name, "dataset", source, license, partial(texts_of, rows, columns, name))


def _from_strings(strings: Iterable[str]) -> Corpus:
    """Open an iterable of strings."""
    # A mapping is iterable too, but over its keys: that would read the words "train" and "test".
    if not isinstance(strings, Iterable) or isinstance(strings, Mapping):
        raise CorpusError(
            "A corpus must be a name, a path, a data set or an iterable of strings, "
            f"got {type(strings).__name__}. Of several splits, choose one."
        )
    read = _replayable(strings) if isinstance(strings, Iterator) else partial(iter, strings)
    return Corpus("strings", "strings", "strings that were passed in", "unknown", partial(_checked_strings, read))


def _replayable(iterator: Iterator[str]) -> Callable[[], Iterator[str]]:
    """Make a one-shot iterator readable from its beginning, held only as far as it was read."""
    (beginning,) = tee(iterator, 1)
    return lambda: copy(beginning)


def _checked_strings(read: Callable[[], Iterator[str]]) -> Iterator[str]:
    """Pass strings on and refuse anything else."""
    for number, item in enumerate(read()):
        if not isinstance(item, str):
            raise CorpusError(
                f"Documents must be strings, but item {number} is of type {type(item).__name__}. "
                "Pass texts, or a data set with `column=`."
            )
        yield item
