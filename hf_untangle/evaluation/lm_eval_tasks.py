"""Tasks of lm-eval, the harness that published figures come from, run on a model as it is in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.distributed import is_main, together
from hf_untangle.errors import ConfigError, MissingExtraError

RESAMPLES = 100
"""Bootstrap samples for the error of those metrics that have no formula for it."""


def task_results(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    batch_size: int = 8,
) -> dict[str, dict[str, float]]:
    """Run tasks of lm-eval.

    One process does the work, and all of them get the result.

    Args:
        model: A causal language model, masked or not; it is left as it was.
        tokenizer: Its tokenizer.
        tasks: Names such as `arc_easy`, which are read from the Hub, or paths of YAML files that describe tasks of your own.
        limit: Questions of each task; None for all.
        batch_size: Requests in one forward pass.

    Returns:
        By task, the numbers of its metrics, such as `acc` and `acc_stderr`, and `samples`. A metric on filtered answers has the
        filter in its name.

    Raises:
        MissingExtraError: lm-eval is not installed.
        ConfigError: There is no such task.
    """
    try:
        import lm_eval  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtraError("Tasks need lm-eval. Install it with `pip install 'hf-untangle[eval]'`.") from error
    with evaluation_mode(model):
        parts = together(lambda: _run(lm_eval, model, tokenizer, tasks, limit, batch_size) if is_main() else {})
    return parts[0]


def _run(
    harness: Any,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    limit: int | None,
    batch_size: int,
) -> dict[str, dict[str, float]]:
    """Run tasks in this process."""
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found]
    from lm_eval.tasks import TaskManager  # type: ignore[import-not-found]

    files = [Path(task) for task in tasks if task.endswith((".yaml", ".yml"))]
    known = TaskManager(include_path=sorted({str(file.parent) for file in files}) or None)
    names = [_task_name(Path(task)) if Path(task) in files else task for task in tasks]
    missing = [name for name in names if name not in known.all_tasks]
    if missing:
        raise ConfigError(
            f"lm-eval must know every task, but has none called {', '.join(missing)}. `lm_eval ls tasks` lists them."
        )
    found = harness.simple_evaluate(
        model=cast(Any, HFLM)(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=names,
        limit=limit,
        task_manager=known,
        bootstrap_iters=RESAMPLES,
        log_samples=False,
        # The user's random numbers stay where they are; which examples are shown has a seed of its own.
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
    )
    return {task: _numbers(values) | _samples(found, task) for task, values in found["results"].items()}


def _task_name(file: Path) -> str:
    """What a task of the user's own is called."""
    import yaml

    if not file.is_file():
        raise ConfigError(f"A task must be a name of lm-eval or a YAML file, but there is no file `{file}`.")
    # A description may call functions by tags of lm-eval's own; its name is on a line without any.
    line = next((line for line in file.read_text("utf-8").splitlines() if line.startswith("task:")), "task:")
    return str(yaml.safe_load(line)["task"])


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """The metrics of a task, without the filter `none` in their names."""
    return {name.removesuffix(",none"): float(value) for name, value in values.items() if isinstance(value, float)}


def _samples(found: dict[str, Any], task: str) -> dict[str, float]:
    """How many questions a task asked."""
    return {"samples": float(found["n-samples"][task]["effective"])} if task in found.get("n-samples", {}) else {}
