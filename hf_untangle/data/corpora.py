"""A corpus: any number of documents from anywhere, parted into train, validation and test."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Literal, cast

from datasets import Dataset, IterableDataset

from hf_untangle.data.catalogue import CORPORA, NamedCorpus
from hf_untangle.data.files import KINDS, check_files, file_documents
from hf_untangle.data.hub import chosen, hub_documents, hub_is_reachable, hub_source
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
    licence: str
    """SPDX-like licence, or "unknown"."""
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
        raise CorpusError(f"Only tables have columns, and this is none. Leave out column=`{column}`.")
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
    entry = chosen(CORPORA[name], column, split)
    wants_hub = prefer == "hub" or (prefer == "auto" and hub_is_reachable())
    opened = _from_hub(name, entry) if wants_hub else _from_package(name, entry)
    logger.info("Corpus `%s` is taken from %s (%s).", name, opened.source, opened.origin)
    return opened


def _from_hub(name: str, entry: NamedCorpus) -> Corpus:
    """Open a named corpus on the Hub."""
    return Corpus(name, "hub", hub_source(entry), entry.licence, partial(hub_documents, name, entry))


def _from_package(name: str, entry: NamedCorpus) -> Corpus:
    """Open a named corpus in its embedded form."""
    if entry.embedded is None:
        raise CorpusError(
            f"The corpus `{name}` is only on the Hub ({entry.repository}), and the Hub is not in use. "
            "Connect to it, unset HF_HUB_OFFLINE, or pass a file of your own."
        )
    return Corpus(name, "embedded", entry.embedded.source, entry.embedded.licence, entry.embedded.read)


def _from_files(source: str | Path, column: str | None) -> Corpus:
    """Open a file or a folder."""
    path, named_column = _split_column(source)
    column = column or named_column
    if isinstance(source, str) and not path.exists() and not _looks_like_a_path(source, path):
        nearest = get_close_matches(source, CORPORA, n=3, cutoff=0.5) or list(CORPORA)
        raise CorpusError(f"There is no corpus named `{source}`, nor a file. Did you mean {', '.join(nearest)}?")
    check_files(path, column)
    return Corpus(path.name, "file", str(path), "unknown", partial(file_documents, path, column))


def _split_column(source: str | Path) -> tuple[Path, str | None]:
    """Take `data.csv:column` apart; a path that exists as it is written has no column."""
    path, colon, column = str(source).rpartition(":")
    if not colon or Path(source).exists() or not (Path(path).exists() or Path(path).suffix in KINDS):
        return Path(source), None
    return Path(path), column


def _looks_like_a_path(source: str, path: Path) -> bool:
    """Tell a path that is missing from a name that is misspelt."""
    return bool(path.suffix) or "/" in source or "\\" in source


def _from_dataset(dataset: Dataset | IterableDataset, column: str | None) -> Corpus:
    """Open a data set that the caller has loaded."""
    name = dataset.info.dataset_name or "dataset"

    def rows() -> Iterator[Row]:
        return cast(Iterator[Row], iter(dataset))

    columns = (find_column(rows, column, name),)
    source = f"{type(dataset).__name__} `{name}`"
    licence = dataset.info.license or "unknown"
    return Corpus(name, "dataset", source, licence, partial(texts_of, rows, columns, name))


def _from_strings(strings: Iterable[str]) -> Corpus:
    """Open an iterable of strings."""
    if not isinstance(strings, Iterable):
        raise CorpusError(
            f"A corpus must be a name, a path, a data set or an iterable of strings, but {type(strings).__name__} came."
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
