"""Commands that unlearn: `demo`, `unlearn` and `run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_untangle.cli.console import DtypeOption, JsonOption, ModelArgument, clear_errors, console, print_json

if TYPE_CHECKING:
    from hf_untangle.recipe import UnlearnRecipe
    from hf_untangle.unlearning import UnlearnResult

OutputOption = Annotated[str, typer.Option("--output", "-o", help="The folder that the result is written to.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a key: `--set settings.steps=4`.")]

DEMO: dict[str, Any] = {
    "task": "unlearn",
    "model": "smollm2",
    "dtype": "bfloat16",
    "forget": {"source": "code", "prefer": "embedded"},
    "retain": {"source": "general", "prefer": "embedded"},
    "prompts": ["def fibonacci(n):\n", "The history of the Roman Empire began when"],
    "settings": {"steps": 3},
}


def demo(output: OutputOption = "out/demo", json: JsonOption = False) -> None:
    """Unlearn code from SmolLM2-135M-Instruct, on this machine, without network."""
    with clear_errors():
        from hf_untangle.recipe import check_recipe

        _finish(check_recipe(DEMO | {"output": output}), as_json=json)


def unlearn_command(  # noqa: PLR0913 (one parameter an option)
    model: ModelArgument,
    forget: Annotated[str, typer.Option(help="The corpus whose capability goes: a name, a file or a folder.")],
    output: OutputOption,
    retain: Annotated[str, typer.Option(help="The corpus whose capability stays.")] = "general",
    preset: Annotated[str, typer.Option(help="Settings to start from: default or paper.")] = "default",
    dtype: DtypeOption = "auto",
    device_map: Annotated[str | None, typer.Option(help="As in from_pretrained, such as auto or cuda.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: `--set steps=4`.")] = None,
    json: JsonOption = False,
) -> None:
    """Take a capability out of a model and save an ordinary checkpoint without it."""
    with clear_errors():
        from hf_untangle.recipe import check_recipe, parse_override

        content = {
            "task": "unlearn",
            "model": model,
            "dtype": dtype,
            "device_map": device_map,
            "forget": forget,
            "retain": retain,
            "preset": preset,
            "settings": dict(map(parse_override, settings or [])),
            "output": output,
        }
        _finish(check_recipe(content), as_json=json)


def run_recipe(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, such as those in recipes/.")],
    overrides: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Do the whole job that a recipe describes."""
    with clear_errors():
        from hf_untangle.recipe import parse_override, read_recipe

        _finish(read_recipe(recipe, dict(map(parse_override, overrides or []))), as_json=json)


def _finish(recipe: "UnlearnRecipe", *, as_json: bool) -> None:
    """Carry a recipe out and show what came of it."""
    from hf_untangle.jobs import run

    result = run(recipe)
    if as_json:
        print_json(result.record.model_dump(mode="json"))
    else:
        _show(result, recipe.output)


def _show(result: "UnlearnResult", output: str) -> None:
    """Print the table, the continuations and where everything is."""
    from hf_untangle.reporting.table import comparison_table, summary

    console.print()
    console.print(comparison_table(result.record))
    for text in result.record.continuations:
        console.rule(repr(text.prompt), align="left", style="dim")
        for title, continuation in (("before", text.before), ("after", text.after)):
            console.print(title, style="bold")
            console.print(continuation.strip(), "", sep="\n", markup=False, highlight=False)
    console.print(summary(result.record), highlight=False)
    console.print(f"Saved in {output}: a checkpoint for from_pretrained, mask.safetensors, untangle.json (every step),")
    console.print(f"and {output}/report.html to look at.")
