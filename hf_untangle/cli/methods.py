"""What `hf-untangle unlearn --list-methods` prints: every method with what it costs."""

from typing import Annotated

import typer

from hf_untangle.cli.console import clear_errors
from hf_untangle.cli.streams import results


def _list_methods(asked: bool) -> None:
    """Print every method with what it costs, and end."""
    if not asked:
        return
    with clear_errors():
        from rich.table import Table

        from hf_untangle.methods.cost import method_rows

        table = Table("method", "what it does", "source", "per step", "once", "memory", box=None)
        for row in method_rows():
            table.add_row(*row)
        results().print(table)
        results().print(
            "per step, once: forward passes over the forget rows of a step; memory: tensors besides the model's weights."
        )
    raise typer.Exit


ListMethodsOption = Annotated[
    bool, typer.Option("--list-methods", is_eager=True, callback=_list_methods, help="List all methods with what each costs.")
]
"""Lists the methods, and does nothing else."""
