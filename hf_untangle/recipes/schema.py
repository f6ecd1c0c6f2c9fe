"""The JSON schema of recipes, made from the models that check them, so that editors know every key."""

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.fields import FieldInfo

from hf_untangle.bench.facts_config import FactsBenchConfig
from hf_untangle.bench.methods_config import MethodsBenchConfig
from hf_untangle.bench.published_config import PublishedBenchConfig
from hf_untangle.config import Config
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.configs.robustify import RobustifyConfig
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.evaluation.score_cache import EvaluationConfig
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.recipes.registry import JOBS, job_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SETTINGS: dict[str, tuple[type[Config], ...]] = {
    "attack": (AttackConfig,),
    "density": (SweepConfig,),
    "evaluate": (EvaluationConfig,),
    "facts": (FactsBenchConfig,),
    "methods": (MethodsBenchConfig,),
    "prune": (PruneConfig,),
    "published": (PublishedBenchConfig,),
    "repair": (RepairConfig,),
    "robustify": (RobustifyConfig,),
    "unlearn": (UnlearnConfig, MethodConfig),
}
"""What the key `settings` of a task may hold; of a name that two of them have, the first one's is meant."""


def settings_of_task(task: str) -> dict[str, FieldInfo]:
    """Every setting of a task.

    Args:
        task: The task of a recipe.

    Returns:
        The fields by name; none where a task takes different settings for different jobs.
    """
    return {name: field for config in reversed(SETTINGS.get(task, ())) for name, field in config.model_fields.items()}


def recipe_schema() -> dict[str, Any]:
    """Describe every key of every task.

    The first line `# yaml-language-server: $schema=recipe.schema.json` of a recipe lets an editor use it.

    Returns:
        A JSON schema, in which the key `task` chooses among the tasks.
    """
    tasks = {task: job_of(task).recipe for task in JOBS}
    any_recipe: Any = Annotated[reduce(or_, tasks.values()), Field(discriminator="task")]
    settings = {task: _joined(configs) for task, configs in SETTINGS.items()}
    schema = TypeAdapter(any_recipe).json_schema()
    for task, recipe in _recipes_by_task(schema).items():
        if task in settings:
            recipe["properties"]["settings"] = settings[task]
    return {"$schema": DRAFT, "title": "Recipe of hf_untangle"} | schema


def _joined(configs: tuple[type[Config], ...]) -> dict[str, Any]:
    """The schema of settings that may be of several configurations at once."""
    schemas = [TypeAdapter(config).json_schema() for config in reversed(configs)]
    properties = {name: value for schema in schemas for name, value in schema["properties"].items()}
    return schemas[-1] | {"properties": properties}


def _recipes_by_task(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schema of each task's recipe."""
    references = schema["discriminator"]["mapping"]
    return {task: schema["$defs"][reference.rpartition("/")[2]] for task, reference in references.items()}
