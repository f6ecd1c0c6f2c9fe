"""How commands speak: results on standard output, progress and errors on standard error, one sentence for an error."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from hf_untangle.cli.streams import clean_stdout
from hf_untangle.errors import BudgetError, UntangleError
from hf_untangle.interrupts import Terminated, sigterm_as_interrupt

BAD_INPUT, OVER_BUDGET, INTERRUPTED, TERMINATED = 3, 4, 130, 143

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
ModelArgument = Annotated[str, typer.Argument(help="A Hub id, a folder, or `smollm2`, which needs no network.")]
OutputOption = Annotated[str, typer.Option("--output", "-o", help="The folder that the result is written to.")]
DeviceMapOption = Annotated[str | None, typer.Option(help="As in from_pretrained, such as auto or cuda.")]
RevisionOption = Annotated[str | None, typer.Option(help="A branch, a tag or a commit of what is on the Hub.")]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let code that lies beside the weights run; nobody is ever asked.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print no progress and no log lines.")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]

# Paths, prompts and messages may hold square brackets, which are no markup.
console = Console(stderr=True, markup=False)
"""For errors, and for what is only said while a command runs."""


@contextmanager
def clear_errors(*, quiet: bool = False) -> Iterator[None]:
    """Turn errors of this package into one sentence and an exit code, and keep standard output for results.

    Args:
        quiet: Whether to print neither progress nor log lines.

    Yields:
        Nothing.
    """
    try:
        with clean_stdout(), sigterm_as_interrupt(), _silence() if quiet else nullcontext():
            yield
    except UntangleError as error:
        console.print(Text.assemble(("Error:", "red"), f" {error}"), soft_wrap=True)
        raise typer.Exit(OVER_BUDGET if isinstance(error, BudgetError) else BAD_INPUT) from error
    except KeyboardInterrupt as error:
        console.print("Interrupted. An unlearning run continues after its last finished step when the same command is given.")
        raise typer.Exit(TERMINATED if isinstance(error, Terminated) else INTERRUPTED) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Let nothing but errors be said, by this package and by those that it loads models with."""
    from hf_untangle.logs import errors_alone, quiet

    with errors_alone("hf_untangle"), quiet():
        yield


def _show_version(wanted: bool) -> bool:
    """Print the version and stop, where that is wanted."""
    if wanted:
        from hf_untangle import __version__

        typer.echo(__version__)
        raise typer.Exit
    return wanted


def print_version(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Open Hugging Face models up and take capabilities out of them."""
