"""The command `demo`: the main job on the embedded model."""

from typing import Annotated, Any

import typer

from hf_untangle.cli.console import JsonOption, OutputOption, QuietOption
from hf_untangle.cli.run import do

DEMO: dict[str, Any] = {
    "task": "unlearn",
    "model": "smollm2",
    "forget": {"source": "code", "prefer": "embedded"},
    "retain": [{"source": "general", "prefer": "embedded"}, "self"],
    "prompts": ["def fibonacci(n):\n", "The history of the Roman Empire began when"],
    "settings": {"steps": 13, "evaluate_every": 7, "tokens": 12_288, "evaluation_tokens": 4_096},
}
QUICK: dict[str, Any] = {"preset": "quick", "retain": DEMO["retain"][0], "prompts": DEMO["prompts"][:1], "settings": {}}
"""What shows the same with fewer steps and tokens, and without waiting for the model to write."""


def demo(
    output: OutputOption = "out/demo",
    quick: Annotated[bool, typer.Option("--quick", help="Four steps on fewer tokens: smaller effects, sooner.")] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Unlearn code from SmolLM2-135M-Instruct, on this machine, without network."""
    do(DEMO | (QUICK if quick else {}) | {"output": output}, as_json=json, progress=not quiet)
