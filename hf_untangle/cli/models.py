"""The command that says which types of models are understood: `models`."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from hf_untangle.cli.console import JsonOption, clear_errors, console, print_json


def models_command(
    types: Annotated[
        list[str] | None, typer.Option("--type", help="A model type, such as llama; all of them otherwise.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build a tiny model of every type in the installed transformers, and say what works on it."""
    with clear_errors():
        from hf_untangle.survey.sweep import sweep

        found = [asdict(one) | {"located": one.located} for one in sweep(types or None)]
        if json:
            print_json(found)
            return
        table = Table("type", "task", "located", "FFN", "attention", "experts", "layers", "why not")
        for row in found:
            counts = [str(row[key]) for key in ("ffn", "attention", "experts", "layers")]
            table.add_row(row["type"], row["task"], "yes" if row["located"] else "no", *counts, row["why"])
        console.print(table)
        console.print(f"{sum(row['located'] for row in found)} of {sum(row['builds'] for row in found)} types located.")
