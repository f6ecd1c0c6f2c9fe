"""The command `repair`: get back what unlearning took from the retain corpus."""

from typing import Annotated

import typer

from hf_untangle.cli.console import JsonOption, OutputOption
from hf_untangle.cli.run import do, settings_of


def repair_command(
    folder: Annotated[str, typer.Argument(help="A folder that `unlearn` wrote.")],
    output: OutputOption,
    retain: Annotated[str | None, typer.Option(help="The corpus to train on; the run's own when left out.")] = None,
    forget: Annotated[str | None, typer.Option(help="The run's forget corpus, where it was a file of yours.")] = None,
    original: Annotated[str | None, typer.Option(help="The model before unlearning, for `--set distill=0.5`.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: `--set method=full`.")] = None,
    json: JsonOption = False,
) -> None:
    """Train an unlearned model on its retain corpus, while removed neurons stay removed, and save it anew."""
    content = {
        "task": "repair",
        "folder": folder,
        "retain": retain,
        "forget": forget,
        "original": original,
        "settings": settings_of(settings),
        "output": output,
    }
    do(content, as_json=json)
