"""A whole job in a YAML file: which model, which corpora, which settings, and where the result goes."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hf_untangle.errors import ConfigError
from hf_untangle.models import Dtype
from hf_untangle.pruning.config import explain


class CorpusChoice(BaseModel):
    """A corpus: a name, a file or a folder, and what to read of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="A named corpus, a file, or a folder; `file.csv:column` names a column.")
    column: str | None = Field(default=None, description="The column that holds the text.")
    split: str | None = Field(default=None, description="The split of a data set.")
    prefer: Literal["auto", "hub", "embedded"] = Field(default="auto", description="Where a named corpus is read from.")

    @model_validator(mode="before")
    @classmethod
    def _from_source(cls, value: Any) -> Any:
        """Take a string alone for the source."""
        return {"source": value} if isinstance(value, str) else value


class UnlearnRecipe(BaseModel):
    """An unlearning job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["unlearn"] = Field(description="What kind of job this is.")
    model: str = Field(description="A Hub id, a folder, or `smollm2`, which needs no network.")
    dtype: Dtype = Field(default="auto", description="The dtype of the weights.")
    device_map: str | None = Field(default=None, description="As in `from_pretrained`, such as `auto` or `cuda`.")
    forget: CorpusChoice = Field(description="The corpus whose capability goes: its source alone, or what to read of it.")
    retain: CorpusChoice = Field(
        default=CorpusChoice(source="general"), description="The same for the corpus whose capability stays."
    )
    preset: str = Field(default="default", description="Settings to start from: `default` or `paper`.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings that differ from the preset's.")
    prompts: tuple[str, ...] | None = Field(default=None, description="Texts to continue before and after, for the report.")
    output: str = Field(description="The folder that the result is written to.")


def read_recipe(file: str | Path, overrides: dict[str, Any] | None = None) -> UnlearnRecipe:
    """Read a recipe and check every key of it.

    Args:
        file: A YAML file.
        overrides: Values for keys such as `output` or `settings.steps`, which take the place of the file's.

    Returns:
        The recipe.

    Raises:
        ConfigError: The file is missing or no YAML mapping, or a key is unknown or has a value out of its range.
    """
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"A recipe must be a YAML file, but there is no file `{file}`.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe `{file}` is not valid YAML: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"The recipe `{file}` must be a mapping of keys to values, but it is a {type(content).__name__}.")
    for key, value in (overrides or {}).items():
        _set(content, key, value)
    return check_recipe(content)


def check_recipe(content: dict[str, Any]) -> UnlearnRecipe:
    """Check the content of a recipe.

    Args:
        content: Keys and values.

    Returns:
        The recipe.

    Raises:
        ConfigError: A key is unknown or missing, or has a value out of its range.
    """
    try:
        return UnlearnRecipe.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(error, UnlearnRecipe)) from error


def parse_override(text: str) -> tuple[str, Any]:
    """Read `key=value`, where the value is YAML.

    Args:
        text: Such as `settings.steps=4`.

    Returns:
        The key and the value.

    Raises:
        ConfigError: There is no `=` in it, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"An override must look like `key=value`, but `{text}` came.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of `{key}` is not valid YAML: {error}.") from error


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    """Set a value by its dotted key."""
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"`{key}` cannot be set, as `{parent}` is a single value and has no keys.")
    content[last] = value
