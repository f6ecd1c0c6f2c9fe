"""The command `nets`: search for a sparse network, over weights or over neurons."""

from typing import Annotated

import typer

from hf_untangle.cli.console import DtypeOption, JsonOption, OutputOption
from hf_untangle.cli.run import do, settings_of


def nets_command(  # noqa: PLR0913 (one parameter an option)
    target: Annotated[str, typer.Argument(help="`mlp` or `convolutional` (on handwritten digits), a Hub id, or a folder.")],
    output: OutputOption,
    forget: Annotated[str | None, typer.Option(help="A corpus whose loss is to rise; language models only.")] = None,
    retain: Annotated[str, typer.Option(help="The corpus that a language model must keep.")] = "general",
    dtype: DtypeOption = "auto",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: `--set generations=30`.")] = None,
    json: JsonOption = False,
) -> None:
    """Evolve a mask, with the parameters that learn under it."""
    content = {"task": "nets", "output": output, "settings": settings_of(settings)}
    if target in ("mlp", "convolutional"):
        content["network"] = target
    else:
        content |= {"model": target, "dtype": dtype, "retain": retain, "forget": forget}
    do(content, as_json=json)
