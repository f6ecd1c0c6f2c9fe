"""What many recipes choose: a corpus, with what to read of it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hf_untangle.data.corpora import Corpus, corpus


def _or_its_source(schema: dict[str, Any]) -> None:
    """Let the schema of a corpus allow a string alone, as the validator does."""
    mapping = schema.copy()
    schema.clear()
    schema["anyOf"] = [{"type": "string", "description": "A named corpus, a file, or a folder."}, mapping]


class CorpusChoice(BaseModel):
    """A corpus: a name, a file or a folder, and what to read of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_or_its_source)

    source: str = Field(description="A named corpus, a file, or a folder; `file.csv:column` names a column.")
    column: str | None = Field(default=None, description="The column that holds the text.")
    split: str | None = Field(default=None, description="The split of a data set.")
    prefer: Literal["auto", "hub", "embedded"] = Field(default="auto", description="Where a named corpus is read from.")

    @model_validator(mode="before")
    @classmethod
    def _from_source(cls, value: Any) -> Any:
        """Take a string alone for the source."""
        return {"source": value} if isinstance(value, str) else value

    def open(self) -> Corpus:
        """The corpus itself."""
        return corpus(self.source, column=self.column, split=self.split, prefer=self.prefer)
