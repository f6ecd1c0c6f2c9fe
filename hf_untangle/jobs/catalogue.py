"""The tasks that a recipe can name, and where the job of each lives."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import BaseModel

from hf_untangle.errors import ConfigError
from hf_untangle.jobs.outcome import Outcome
from hf_untangle.jobs.plan import Plan
from hf_untangle.pruning.config import nearest

JOBS: dict[str, str] = {
    "collect": "hf_untangle.jobs.collect",
    "adapter": "hf_untangle.jobs.adapter",
    "attack": "hf_untangle.jobs.attack",
    "evaluate": "hf_untangle.jobs.evaluate",
    "push": "hf_untangle.jobs.push",
    "prune": "hf_untangle.jobs.prune",
    "entropy": "hf_untangle.jobs.entropy",
    "translate": "hf_untangle.jobs.translate",
    "density": "hf_untangle.jobs.density",
    "nets": "hf_untangle.jobs.nets",
    "compact": "hf_untangle.jobs.compact",
    "repair": "hf_untangle.jobs.repair",
    "unlearn": "hf_untangle.jobs.unlearn",
}
"""The module of each task, imported when a recipe names it."""


@dataclass(frozen=True)
class Job:
    """What the module of a task holds."""

    recipe: type[BaseModel]
    """Its `Recipe`: every key; the field `task` holds the name."""
    run: Callable[..., Outcome]
    """Its `run(recipe, *, progress)`, which does the whole job."""
    plan: Callable[..., Plan] | None
    """Its `plan(recipe)`, which estimates time and memory; None where it gives no estimate."""


def job_of(task: Any) -> Job:
    """Find the job of a task.

    Args:
        task: The value of a recipe's key `task`.

    Returns:
        Its recipe, its `run`, and its `plan` where it has one.

    Raises:
        ConfigError: There is no such task.
    """
    if task not in JOBS:
        raise ConfigError(f"`task` must be one of {', '.join(JOBS)}, but {task!r} came{nearest(str(task), JOBS)}.")
    module = import_module(JOBS[task])
    return Job(module.Recipe, module.run, getattr(module, "plan", None))
