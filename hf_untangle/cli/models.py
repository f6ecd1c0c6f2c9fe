"""The command that says which types of models are understood: `models`."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from hf_untangle.cli.console import JsonOption, clear_errors
from hf_untangle.cli.streams import results, write_json


def models_command(
    types: Annotated[
        list[str] | None, typer.Option("--type", help="A model type, such as llama; all of them otherwise.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build a tiny model of every type in the installed transformers, and say what works on it."""
    with clear_errors():
        from hf_untangle.survey.survey import sweep

        found = list(sweep(types or None))
        if json:
            write_json([asdict(one) | {"located": one.located} for one in found])
            return
        table = Table("type", "task", "located", "FFN", "attention", "experts", "layers", "ragged", "uniform", "why not")
        for one in found:
            counts = map(str, (one.ffn, one.attention, one.experts, one.layers))
            located, *smaller = ("yes" if works else "no" for works in (one.located, one.ragged, one.uniform))
            table.add_row(one.type, one.task, located, *counts, *smaller, one.why)
        results().print(table)
        results().print(f"{sum(one.located for one in found)} of {sum(one.builds for one in found)} types located.")
