"""The tasks that a recipe can name, and where the job of each lives."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import BaseModel

from hf_untangle.config import nearest
from hf_untangle.errors import ConfigError
from hf_untangle.files.regular import shown
from hf_untangle.recipes.plan import Outcome, Plan

JOBS: dict[str, str] = {
    "collect": "hf_untangle.recipes.collect",
    "adapter": "hf_untangle.recipes.adapter",
    "attack": "hf_untangle.recipes.attack",
    "evaluate": "hf_untangle.recipes.evaluate",
    "push": "hf_untangle.recipes.push",
    "prune": "hf_untangle.recipes.prune",
    "entropy": "hf_untangle.recipes.entropy",
    "translate": "hf_untangle.recipes.translate",
    "density": "hf_untangle.recipes.density",
    "nets": "hf_untangle.recipes.nets",
    "planted": "hf_untangle.recipes.planted",
    "methods": "hf_untangle.recipes.bench_methods",
    "facts": "hf_untangle.recipes.bench_facts",
    "published": "hf_untangle.recipes.bench_published",
    "compact": "hf_untangle.recipes.compact",
    "vocabulary": "hf_untangle.recipes.vocabulary",
    "hidden-size": "hf_untangle.recipes.hidden_size",
    "restore": "hf_untangle.recipes.restore",
    "repair": "hf_untangle.recipes.repair",
    "robustify": "hf_untangle.recipes.robustify",
    "unlearn": "hf_untangle.recipes.unlearn",
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
    if not isinstance(task, str) or task not in JOBS:
        raise ConfigError(f"`task` must be one of {', '.join(JOBS)}, got {shown(task)}{nearest(str(task), JOBS)}.")
    module = import_module(JOBS[task])
    return Job(module.Recipe, module.run, getattr(module, "plan", None))
