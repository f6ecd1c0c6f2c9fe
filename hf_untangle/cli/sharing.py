"""Commands that hand something on: `adapter` and `push`."""

from typing import Annotated

import typer

from hf_untangle.cli.console import JsonOption
from hf_untangle.cli.run import do


def adapter_command(
    source: Annotated[str, typer.Argument(help="A mask file, or the folder of a result.")],
    output: Annotated[str, typer.Argument(help="The folder that the adapter is written to.")],
    step: Annotated[int | None, typer.Option(help="Take this step of the result, not the chosen one.")] = None,
    all_steps: Annotated[bool, typer.Option(help="Write every step, each into a folder of its own.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a mask as a stock peft (IA)3 adapter, which the original model can switch on and off."""
    content = {"task": "adapter", "source": source, "output": output, "step": step, "all_steps": all_steps}
    do(content, as_json=json)


def push_command(
    folder: Annotated[str, typer.Argument(help="What unlearn, adapter or save_pretrained wrote.")],
    repository: Annotated[str, typer.Argument(help="The repository on the Hub: user/name. It is made when there is none.")],
    private: Annotated[bool, typer.Option(help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="The branch to push to, which must exist.")] = None,
    message: Annotated[str, typer.Option(help="The commit message.")] = "Upload with hf_untangle",
    pull_request: Annotated[bool, typer.Option(help="Open a pull request instead of writing to the branch.")] = False,
    json: JsonOption = False,
) -> None:
    """Push a result or adapters to the Hub, as who is logged in there (`hf auth login`, or HF_TOKEN)."""
    content = {"task": "push", "folder": folder, "repository": repository, "private": private, "revision": revision}
    do(content | {"message": message, "pull_request": pull_request}, as_json=json)
