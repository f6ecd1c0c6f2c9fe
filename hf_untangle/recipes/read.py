"""Recipes: a whole job in a YAML file, with every key checked before anything long begins."""

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hf_untangle.config import checked
from hf_untangle.errors import ConfigError
from hf_untangle.files.regular import Expected, read_text
from hf_untangle.files.yaml_text import LIMIT, parse_yaml
from hf_untangle.recipes.plan import Outcome, Plan
from hf_untangle.recipes.registry import job_of


def read_recipe(file: str | Path, overrides: dict[str, Any] | None = None) -> BaseModel:
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
    text = read_text(Expected(path, "a recipe in YAML", ConfigError), LIMIT)
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"The recipe `{file}` is not valid YAML: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"The recipe `{file}` must be a mapping of keys to values, but it is a {type(content).__name__}.")
    for key, value in (overrides or {}).items():
        set_key(content, key, value)
    return check_recipe(content)


def check_recipe(content: dict[str, Any]) -> BaseModel:
    """Check the content of a recipe.

    Args:
        content: Keys and values.

    Returns:
        The recipe.

    Raises:
        ConfigError: A key is unknown or missing, or has a value out of its range.
    """
    _check_finite(content)
    if "task" not in content:
        raise ConfigError("`task`: field required.")
    return checked(job_of(content["task"]).recipe, content)


def _check_finite(value: Any, key: str = "") -> None:
    """Refuse what is no number, before anything is loaded; a budget without a limit alone may be infinite."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in items:
        _check_finite(one, f"{key}.{name}" if key else str(name))
    if isinstance(value, float) and not math.isfinite(value) and not (value == math.inf and key.endswith("perplexity_budget")):
        raise ConfigError(f"`{key}` must be a finite number, got {value}.")


def carry_out(recipe: BaseModel, *, progress: bool = True) -> Outcome:
    """Do the job of a checked recipe.

    Args:
        recipe: What `check_recipe` gave.
        progress: Whether to show progress bars.

    Returns:
        What came of it.
    """
    return job_of(recipe.model_dump()["task"]).run(recipe, progress=progress)


def plan_of(recipe: BaseModel) -> Plan:
    """Say what a job would do, without doing any of it.

    Args:
        recipe: What `check_recipe` gave.

    Returns:
        Every key, and time and memory of the stages where the task gives an estimate.
    """
    content = recipe.model_dump(mode="json")
    plan = job_of(content["task"]).plan
    return Plan(content, (), None) if plan is None else plan(recipe)


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
        raise ConfigError(f"An override must look like `key=value`, got `{text}`.")
    try:
        return key.strip(), parse_yaml(value)
    except ValueError as error:
        raise ConfigError(f"The value of `{key}` is not valid YAML: {error}.") from error


def set_key(content: dict[str, Any], key: str, value: Any) -> None:
    """Set a value by its dotted key.

    Args:
        content: Keys and values of a recipe, changed in place.
        key: Such as `settings.steps`.
        value: The value.

    Raises:
        ConfigError: A part of the key is a single value.
    """
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"`{key}` cannot be set, as `{parent}` is a single value and has no keys.")
    content[last] = value
