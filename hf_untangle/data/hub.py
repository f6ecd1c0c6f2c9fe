"""Documents from the Hugging Face Hub, streamed."""

from collections.abc import Iterator
from functools import partial
from typing import cast

from hf_untangle.data.documents import Document
from hf_untangle.data.named import NamedCorpus
from hf_untangle.data.row_formats import Row
from hf_untangle.data.rows import documents_of, find_shape, text_columns
from hf_untangle.errors import CorpusError


def hub_documents(name: str, entry: NamedCorpus) -> Iterator[str | Document]:
    """Stream the documents of a named corpus that is on the Hub.

    Args:
        name: Name of the corpus, for errors.
        entry: Where it lives and how its rows become documents.

    Yields:
        The documents. A data set that the Hub refuses, or without such a column, is a `CorpusError`.
    """
    rows, repository = partial(hub_rows, name, entry), str(entry.repository)
    shape = text_columns(entry.columns) if entry.columns else find_shape(rows, None, None, repository)
    documents = documents_of(rows, shape, None, repository)
    yield from entry.join(cast(Iterator[str], documents)) if entry.join else documents


def hub_rows(name: str, entry: NamedCorpus) -> Iterator[Row]:
    """Stream the rows that belong to a named corpus.

    Args:
        name: Name of the corpus, for errors.
        entry: Where it lives.

    Yields:
        The rows. What the Hub refuses is a `CorpusError`.
    """
    try:
        rows = _stream(entry)
        yield from filter(entry.keep, rows) if entry.keep else rows
    except Exception as error:  # Gated, renamed, no such split, connection lost: each has its own kind.
        without = "Set HF_HUB_OFFLINE=1 to take its embedded form." if entry.embedded else "Log in if it is gated."
        raise CorpusError(f"The corpus `{name}` could not be read from {entry.place} on the Hub: {error} {without}") from error


def _stream(entry: NamedCorpus) -> Iterator[Row]:
    """Open the data set as a stream."""
    from datasets import load_dataset  # It takes a second to import, which corpora from elsewhere do not need.

    if entry.files:
        files = {entry.split: f"hf://datasets/{entry.repository}@{entry.files}"}
        return iter(load_dataset("parquet", data_files=files, split=entry.split, streaming=True))
    return iter(load_dataset(str(entry.repository), entry.config, split=entry.split, streaming=True))
