"""The command `demo`: the main job on the embedded model."""

from typing import Annotated, Any

import typer

from hf_untangle.cli.console import JsonOption, OutputOption, QuietOption
from hf_untangle.cli.run import do

DEMO: dict[str, Any] = {
    "task": "unlearn",
    "model": "smollm2",
    "method": "prune",
    "forget": {"source": "code", "prefer": "embedded"},
    "retain": {"source": "general", "prefer": "embedded"},
    "prompts": ["def fibonacci(n):\n", "The history of the Roman Empire began when"],
    "settings": {"steps": 5, "tokens": 8_192, "gradient_tokens": 4_096, "evaluation_tokens": 4_096},
}
QUICK: dict[str, Any] = {"preset": "quick", "settings": {}}
"""What shows the same with fewer steps and tokens."""


def demo(
    output: OutputOption = "out/demo",
    quick: Annotated[bool, typer.Option("--quick", help="Two steps on fewer tokens: smaller effects, sooner.")] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Unlearn code from SmolLM2-135M-Instruct, on this machine, without network."""
    do(DEMO | (QUICK if quick else {}) | {"output": output}, as_json=json, progress=not quiet)
