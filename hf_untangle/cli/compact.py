"""The command `compact`: a smaller checkpoint from one whose neurons were removed, or with a mask."""

from typing import Annotated

import typer

from hf_untangle.cli.console import JsonOption
from hf_untangle.cli.run import do


def compact_command(
    source: Annotated[str, typer.Argument(help="A folder with a checkpoint in safetensors, in full precision.")],
    target: Annotated[str, typer.Argument(help="The folder to write.")],
    mask: Annotated[
        str | None, typer.Option(help="A mask.safetensors; without it, removed neurons are read off the weights.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="uniform loads anywhere; ragged is smaller, and loads with hf_untangle.")
    ] = "uniform",
    round_to: Annotated[int | None, typer.Option(help="Round FFN widths up to a multiple: 64, 128 or 256.")] = None,
    json: JsonOption = False,
) -> None:
    """Take removed neurons out of a checkpoint, shard by shard, so that it is smaller and faster."""
    content = {"task": "compact", "source": source, "mask": mask, "layout": layout, "round_to": round_to, "output": target}
    do(content, as_json=json)
