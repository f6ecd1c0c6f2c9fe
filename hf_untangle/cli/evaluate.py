"""The command `evaluate`: what a model can do."""

from typing import Annotated

import typer

from hf_untangle.cli.console import DtypeOption, JsonOption, ModelArgument
from hf_untangle.cli.inspect import PartOption, TokensOption
from hf_untangle.cli.run import do, settings_of


def evaluate_command(  # noqa: PLR0913 (one parameter an option)
    model: ModelArgument,
    corpus: Annotated[list[str] | None, typer.Argument(help="Named corpora, files or folders.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="What to measure; again for more.")] = None,
    pairs: Annotated[str | None, typer.Option(help="A table of prompts and answers.")] = None,
    holdout: Annotated[str | None, typer.Option(help="Text that the model has not seen, for membership_auc.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="A task of lm-eval, such as arc_easy; again for more.")] = None,
    tokens: TokensOption = 8_192,
    part: PartOption = "test",
    dtype: DtypeOption = "auto",
    output: Annotated[str | None, typer.Option("--output", "-o", help="A JSON file for the numbers.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: `--set prompts=4`.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure what a model can do: accuracy and perplexity on corpora, or any metrics, pairs and tasks."""
    content = {
        "task": "evaluate",
        "model": model,
        "dtype": dtype,
        "corpora": corpus or [],
        "pairs": pairs,
        "holdout": holdout,
        "metrics": metric,
        "tasks": task or [],
        "settings": {"tokens": tokens, "part": part} | settings_of(settings),
        "output": output,
    }
    do(content, as_json=json)
