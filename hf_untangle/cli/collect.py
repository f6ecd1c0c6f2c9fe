"""The command `collect`: statistics of a model on a corpus, in a file."""

from typing import Annotated

import typer

from hf_untangle.cli.console import DtypeOption, JsonOption, ModelArgument
from hf_untangle.cli.inspect import PartOption
from hf_untangle.cli.run import do


def _checked(size: str) -> str:
    """Refuse what is neither a number nor `auto`."""
    if size != "auto" and not size.lstrip("-").isdigit():
        raise typer.BadParameter(f"A batch size must be a number or `auto`, got `{size}`.")
    return size


def collect_command(  # noqa: PLR0913 (one parameter an option)
    model: ModelArgument,
    corpus: Annotated[str, typer.Argument(help="A named corpus, a file or a folder.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The safetensors file to write.")],
    tokens: Annotated[int, typer.Option("--tokens", "--max-tokens", help="How many tokens to read at the most.")] = 32_768,
    part: PartOption = "train",
    dtype: DtypeOption = "auto",
    device_map: Annotated[str | None, typer.Option(help="As in from_pretrained, such as auto or cuda.")] = None,
    batch_size: Annotated[
        str, typer.Option(help="Blocks in a forward pass; `auto` halves them when memory runs out.", callback=_checked)
    ] = "auto",
    max_seconds: Annotated[
        float | None, typer.Option(help="Begin no batch after so many seconds; what was read until then counts.")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Write the sums down every so many blocks, to go on from after a stop.")
    ] = 256,
    roots: Annotated[bool, typer.Option(help="Sum sqrt|z| too, for the importance `sqrt`.")] = False,
    json: JsonOption = False,
) -> None:
    """Collect activation statistics of a model on a corpus; the same command goes on where a stopped one was."""
    content = {
        "task": "collect",
        "model": model,
        "dtype": dtype,
        "device_map": device_map,
        "corpus": corpus,
        "part": part,
        "max_tokens": tokens,
        "batch_size": "auto" if batch_size == "auto" else int(batch_size),
        "max_seconds": max_seconds,
        "checkpoint_every": checkpoint_every,
        "roots": roots,
        "output": output,
    }
    do(content, as_json=json)
