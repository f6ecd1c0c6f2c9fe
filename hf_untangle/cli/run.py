"""The command `run`, and how every command does a job: the same recipe, whether from a file or from options."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_untangle.cli.console import JsonOption, QuietOption, clear_errors
from hf_untangle.cli.early import check_model_of_recipe
from hf_untangle.cli.streams import results, write_json

if TYPE_CHECKING:
    from pydantic import BaseModel

SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a key: `--set settings.steps=4`.")]


def run_recipe(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, such as those in recipes/.")],
    overrides: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every key, print the stages with time and memory, and do nothing.")
    ] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Do the whole job that a recipe describes."""
    with clear_errors(quiet=quiet):
        check_model_of_recipe(recipe, overrides or ())
        from hf_untangle.recipes.read import plan_of, read_recipe

        checked = read_recipe(recipe, settings_of(overrides))
        if not dry_run:
            _finish(checked, as_json=json, progress=not quiet)
            return
        plan = plan_of(checked)
        if json:
            write_json(plan.record())
        else:
            plan.show(results())


def schema_command() -> None:
    """Print the JSON schema of recipes, by which editors complete and check them."""
    with clear_errors():
        from hf_untangle.recipes.schema import recipe_schema

        write_json(recipe_schema())


def do(
    content: dict[str, Any], *, overrides: dict[str, Any] | None = None, as_json: bool = False, progress: bool = True
) -> None:
    """Do the job that a command's options describe.

    Args:
        content: The keys and values of a recipe.
        overrides: Values by dotted keys, which go before those of `content`.
        as_json: Whether to print the record as JSON instead of a table.
        progress: Whether to show progress bars and log lines.
    """
    with clear_errors(quiet=not progress):
        from hf_untangle.recipes.read import check_recipe, set_key

        for key, value in (overrides or {}).items():
            set_key(content, key, value)
        _finish(check_recipe(content), as_json=as_json, progress=progress)


def settings_of(overrides: list[str] | None) -> dict[str, Any]:
    """Read the options `--set key=value`.

    Args:
        overrides: The options, as they came.

    Returns:
        Values by key.
    """
    with clear_errors():
        from hf_untangle.recipes.read import parse_override

        return dict(map(parse_override, overrides or []))


def _finish(recipe: "BaseModel", *, as_json: bool, progress: bool = True) -> None:
    """Run a recipe and show its outcome."""
    from hf_untangle.distributed import is_main
    from hf_untangle.recipes.read import carry_out

    outcome = carry_out(recipe, progress=progress)
    if not is_main():
        return
    if as_json:
        write_json(outcome.record)
    else:
        outcome.show(results())
