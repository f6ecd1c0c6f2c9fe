"""The command `demo`: the main job on the embedded model."""

from typing import Any

from hf_untangle.cli.console import JsonOption, OutputOption
from hf_untangle.cli.run import do

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
