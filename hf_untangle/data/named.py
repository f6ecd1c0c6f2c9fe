"""What is known of a corpus that has a name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hf_untangle.data.embedded import Embedded
from hf_untangle.data.row_formats import Kind, Row


@dataclass(frozen=True)
class NamedCorpus:
    """A data set on the Hub and how its rows become documents."""

    summary: str
    """What the documents are, in a few words."""
    repository: str | None
    """Identifier of the data set on the Hub; None for one that is in this package alone."""
    license: str
    """SPDX expression after the data set's card, or "unknown" where it gives none."""
    config: str | None = None
    """Configuration of the data set, when it has several."""
    files: str | None = None
    """Parquet files to read instead, relative to the repository, where `datasets` has no other way in."""
    split: str = "train"
    """Split of the data set."""
    columns: tuple[str, ...] = ("text",)
    """Columns that make a document, joined by a newline; none where rows are taken as they are, such as questions."""
    kind: Kind = "text"
    """What one document is called."""
    keep: Callable[[Row], bool] | None = None
    """Which rows belong to the corpus; all of them without it."""
    join: Callable[[Iterable[str]], Iterator[str]] | None = None
    """How rows become documents where a document spans many rows."""
    embedded: Embedded | None = None
    """What is taken when the Hub cannot be reached, or where it has no such data set."""

    @property
    def place(self) -> str:
        """Where it lives on the Hub, for instance `Salesforce/wikitext (wikitext-2-raw-v1, train)`."""
        within = (self.config, self.files, self.split)
        return f"{self.repository} ({', '.join(part for part in within if part)})"
