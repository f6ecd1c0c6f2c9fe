"""What many recipes choose: a corpus, with what to read of it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hf_untangle.data.corpora import Corpus, corpus, together
from hf_untangle.data.documents import ChatMode, Side


def _or_its_source(schema: dict[str, Any]) -> None:
    """Let the schema of a corpus allow a string alone, as the validator does."""
    mapping = schema.copy()
    schema.clear()
    # The reference to a corpus is the one that pydantic has written already.
    items = mapping["properties"]["several"]["items"]
    several = {"type": "array", "items": items, "description": "Several corpora, read together."}
    schema["anyOf"] = [{"type": "string", "description": "A named corpus, a file, or a folder."}, several, mapping]


class CorpusChoice(BaseModel):
    """A corpus: a name, a file or a folder, and what to read of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_or_its_source)

    source: str = Field(description="A named corpus, a file, or a folder; `file.csv:column` names a column.")
    column: str | None = Field(default=None, description="The column that holds the texts or chats.")
    name: str | None = Field(default=None, description="What to call it in reports.")
    split: str | None = Field(default=None, description="The split of a data set; `all`, by which each part has all rows.")
    group: str | None = Field(default=None, description="A column: rows with equal values in it are never in two parts.")
    chat: ChatMode | None = Field(
        default=None, description="Write rows by the model's chat template: where there is one (auto), always, or never."
    )
    side: Side | None = Field(default=None, description="Of a preference data set: the rows to `forget` or to `retain`.")
    prefer: Literal["auto", "hub", "embedded"] = Field(default="auto", description="Where a named corpus is read from.")
    several: tuple["CorpusChoice", ...] = Field(default=(), description="What it is made of, where a list was given.")

    @model_validator(mode="before")
    @classmethod
    def _from_source(cls, value: Any) -> Any:
        """Take a string alone for the source, and a list for several corpora."""
        while isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        if isinstance(value, list | tuple) and value:
            sources = [one.get("source") if isinstance(one, dict) else getattr(one, "source", one) for one in value]
            return {"source": " + ".join(map(str, sources)), "several": value}
        return {"source": value} if isinstance(value, str) else value

    def open(self) -> Corpus:
        """The corpus itself."""
        if self.several:
            return together([one.open() for one in self.several])
        return corpus(self.source, **self.model_dump(exclude={"source", "several"}))
