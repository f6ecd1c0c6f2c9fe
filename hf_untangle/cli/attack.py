"""The command `attack`: try to get back what a model has forgotten."""

from typing import Annotated

import typer

from hf_untangle.cli.console import JsonOption
from hf_untangle.cli.run import do, settings_of


def attack_command(  # noqa: PLR0913 (one parameter an option)
    folder: Annotated[str, typer.Argument(help="A folder that `unlearn` wrote.")],
    quick: Annotated[bool, typer.Option("--quick", help="At most ten minutes for SmolLM2 on two cores.")] = False,
    attacks: Annotated[
        str | None, typer.Option("--attacks", help="Which ones, joined by commas: `--attacks relearn,quantize`.")
    ] = None,
    original: Annotated[str | None, typer.Option(help="The model before unlearning; the run's own when left out.")] = None,
    gold: Annotated[str | None, typer.Option(help="A model that never learnt the forget corpus.")] = None,
    neighbor: Annotated[str | None, typer.Option(help="A corpus near to the forget corpus.")] = None,
    forget: Annotated[str | None, typer.Option(help="The run's forget corpus, where it was a file of yours.")] = None,
    retain: Annotated[str | None, typer.Option(help="The run's retain corpus, likewise.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Where to save; into the folder itself when left out.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: `--set seeds=5`.")] = None,
    json: JsonOption = False,
) -> None:
    """Quantize, retrain, prompt and look inside a copy of an unlearned model: does what it forgot come back?"""
    chosen = {} if attacks is None else {"attacks": attacks.split(",")}
    content = {
        "task": "attack",
        "folder": folder,
        "quick": quick,
        "original": original,
        "gold": gold,
        "neighbor": neighbor,
        "forget": forget,
        "retain": retain,
        "settings": chosen | settings_of(settings),
        "output": output,
    }
    do(content, as_json=json)
