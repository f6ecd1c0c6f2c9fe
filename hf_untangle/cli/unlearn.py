"""Commands that unlearn: `demo` and `unlearn`."""

from typing import Annotated, Any

import typer

from hf_untangle.cli.console import DtypeOption, JsonOption, ModelArgument, OutputOption
from hf_untangle.cli.run import do, settings_of

DEMO: dict[str, Any] = {
    "task": "unlearn",
    "model": "smollm2",
    "dtype": "bfloat16",
    "forget": {"source": "code", "prefer": "embedded"},
    "retain": {"source": "general", "prefer": "embedded"},
    "prompts": ["def fibonacci(n):\n", "The history of the Roman Empire began when"],
    "settings": {"steps": 5},
}


def demo(output: OutputOption = "out/demo", json: JsonOption = False) -> None:
    """Unlearn code from SmolLM2-135M-Instruct, on this machine, without network."""
    do(DEMO | {"output": output}, as_json=json)


def unlearn_command(  # noqa: PLR0913 (one parameter an option)
    model: ModelArgument,
    forget: Annotated[str, typer.Option(help="The corpus whose capability goes: a name, a file or a folder.")],
    output: OutputOption,
    retain: Annotated[
        str | None, typer.Option(help="The corpus whose capability stays; general prose, or the other classes.")
    ] = None,
    kind: Annotated[str, typer.Option(help="causal-lm, masked-lm or image-classifier.")] = "causal-lm",
    preset: Annotated[str, typer.Option(help="Settings to start from: default or paper.")] = "default",
    dtype: DtypeOption = "auto",
    device_map: Annotated[str | None, typer.Option(help="As in from_pretrained, such as auto or cuda.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: `--set steps=4`.")] = None,
    json: JsonOption = False,
) -> None:
    """Take a capability out of a model and save an ordinary checkpoint without it."""
    content = {
        "task": "unlearn",
        "model": model,
        "kind": kind,
        "dtype": dtype,
        "device_map": device_map,
        "forget": forget,
        "retain": retain,
        "preset": preset,
        "settings": settings_of(settings),
        "output": output,
    }
    do(content, as_json=json)
