"""The command `density`: how much of a model, or of a family of networks, can go without retraining."""

from typing import Annotated

import typer

from hf_untangle.cli.console import DtypeOption, JsonOption, OutputOption
from hf_untangle.cli.run import do, settings_of


def density_command(  # noqa: PLR0913 (one parameter an option)
    target: Annotated[
        str,
        typer.Argument(
            help="A model (Hub id, folder, `smollm2`), or with --widths a family: mlp, convolutional, residual, gpt2, "
            "llama, or a Hub name with {} for the width."
        ),
    ],
    output: OutputOption,
    widths: Annotated[str | None, typer.Option(help="Widths of the family: `16,64,256`, or `70m,160m` for {}.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Networks to train at every width.")] = 3,
    corpus: Annotated[str, typer.Option(help="What language models are judged on: a name, a file or a folder.")] = "general",
    images: Annotated[str, typer.Option(help="What classifiers learn: digits, mnist or cifar10.")] = "digits",
    dtype: DtypeOption = "auto",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: `--set unit=neurons`.")] = None,
    json: JsonOption = False,
) -> None:
    """Prune more and more of a trained network, never retrain, and see how much was needed."""
    family = {"family": target, "widths": _widths(widths), "seeds": list(range(seeds)), "images": images}
    content = {
        "task": "density",
        **({"model": target} if widths is None else family),
        "corpus": corpus,
        "dtype": dtype,
        "settings": settings_of(settings),
        "output": output,
    }
    do(content, as_json=json)


def _widths(text: str | None) -> list[int | str]:
    """Read `16,64` as numbers, and `70m,160m` as they are."""
    return [int(part) if part.isdigit() else part for part in (text or "").split(",") if part]
