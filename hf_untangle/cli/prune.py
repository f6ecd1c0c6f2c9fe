"""The command that compresses: `prune`."""

from typing import Annotated

import typer

from hf_untangle.cli.console import DtypeOption, JsonOption, ModelArgument, OutputOption
from hf_untangle.cli.run import do, settings_of


def prune_command(  # noqa: PLR0913 (one parameter an option)
    model: ModelArgument,
    output: OutputOption,
    data: Annotated[str, typer.Option(help="The text by which neurons are judged: a name, a file or a folder.")] = "general",
    ratio: Annotated[float, typer.Option(help="Share of all FFN neurons to remove.")] = 0.25,
    importance: Annotated[str, typer.Option(help="What a neuron is worth; the lowest go first.")] = "wanda",
    compact: Annotated[str | None, typer.Option(help="Shrink the tensors too: uniform or ragged.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go where, and write nothing.")] = False,
    dtype: DtypeOption = "auto",
    device_map: Annotated[str | None, typer.Option(help="As in from_pretrained, such as auto or cuda.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: `--set ablation=mean`.")] = None,
    json: JsonOption = False,
) -> None:
    """Remove the FFN neurons that a text needs least, and save an ordinary checkpoint without them."""
    content = {
        "task": "prune",
        "model": model,
        "dtype": dtype,
        "device_map": device_map,
        "data": data,
        "settings": {"ratio": ratio, "importance": importance, "compact": compact} | settings_of(settings),
        "dry_run": dry_run,
        "output": output,
    }
    do(content, as_json=json)
