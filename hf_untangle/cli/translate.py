"""Commands that rewrite a network as another one that computes the same: `translate kan`, `relu` and `three-layer`."""

from typing import Annotated, Any

import typer

from hf_untangle.cli.console import DtypeOption, JsonOption, OutputOption
from hf_untangle.cli.run import do

app = typer.Typer(no_args_is_help=True, help="Rewrite a network as another one that computes the same function.")

NetworkArgument = Annotated[
    str,
    typer.Argument(
        help="A Hub id or a folder (its feed-forward blocks are swapped); a file with a multilayer perceptron, in "
        "safetensors or by torch.save, or with a KAN; or `digits`, a small classifier that is trained first."
    ),
]
BoxOption = Annotated[tuple[float, float], typer.Option(help="Smallest and largest value of every input.")]
BOX = (-3.0, 3.0)


@app.command("kan")
def kan_command(
    network: NetworkArgument = "digits",
    output: OutputOption = "out/kan",
    form: Annotated[str | None, typer.Option(help="Of an MLP: fused (the default), shifted or alternating.")] = None,
    box: BoxOption = BOX,
    data: Annotated[str | None, typer.Option(help="A corpus for a page about one block of a checkpoint.")] = None,
    block: Annotated[int, typer.Option(help="Which block that page is about; -1 is the last.")] = -1,
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Rewrite a ReLU network as a piecewise linear KAN, or swap the feed-forward blocks of a checkpoint for KAN layers."""
    options = {"form": form, "box": box, "data": data, "block": block, "dtype": dtype}
    _translate("kan", network, output, options, json)


@app.command("relu")
def relu_command(
    network: NetworkArgument,
    output: OutputOption = "out/relu",
    box: BoxOption = BOX,
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Rewrite a KAN as a multilayer perceptron with ReLUs, or make ordinary blocks of a checkpoint's KAN layers."""
    _translate("relu", network, output, {"box": box, "dtype": dtype}, json)


@app.command("three-layer")
def three_layer_command(
    network: NetworkArgument = "digits",
    output: OutputOption = "out/three-layer",
    form: Annotated[str, typer.Option(help="halfopen, closed or gate.")] = "halfopen",
    box: BoxOption = BOX,
    max_regions: Annotated[int, typer.Option(help="The most linear regions to translate.")] = 100_000,
    max_seconds: Annotated[float, typer.Option(help="The longest time to look for them.")] = 3600.0,
    processes: Annotated[int, typer.Option(help="How many processes look for them.")] = 1,
    json: JsonOption = False,
) -> None:
    """Rewrite a ReLU network as three layers over the extended reals, in which every weight has a role."""
    limits = {"max_regions": max_regions, "max_seconds": max_seconds, "processes": processes}
    _translate("three-layer", network, output, {"form": form, "box": box} | limits, json)


def _translate(to: str, network: str, output: str, options: dict[str, Any], as_json: bool) -> None:
    """Do the job that the options of a command describe."""
    do({"task": "translate", "to": to, "network": network, "output": output} | options, as_json=as_json)
