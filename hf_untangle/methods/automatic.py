"""What `method="auto"` is: the composition that forgets most for the least disruption, and pruning where it cannot train."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.catalogue import OWN
from hf_untangle.data.corpora import corpus
from hf_untangle.data.images import ImageClasses
from hf_untangle.data.tokens import Task
from hf_untangle.data.two_corpora import GENERAL
from hf_untangle.data.understood import announce
from hf_untangle.distributed import place
from hf_untangle.errors import CorpusError, MaskError
from hf_untangle.masks.removal import check_in_memory
from hf_untangle.methods.choose import AUTO, PRUNE
from hf_untangle.methods.writes import matrices_in_layers
from hf_untangle.pruning.tasks import Opened

TRAINED = "wga"
"""The method that won in `benchmarks/methods_frontier.py`."""
COMPOSITION: Mapping[str, Any] = {
    "retain_objective": "kl",
    "alpha": 5.0,
    "beta": 0.2,
    "steps": 20,
    "evaluate_every": 5,
    "search": (1.0,),
}
"""Its settings, where the caller does not set them."""
FIRST_LOOK: Mapping[str, Any] = {"steps": 4, "evaluate_every": 4}
"""What the preset `quick` changes of them; its steps are twice as large."""
RELATIVE_RATE = 5e-4
"""Its learning rate over the root mean square of the weights in layers: Adam moves a weight by about the rate in a step, and
weights of large models are small. It is 1e-4 for SmolLM2-135M (0.19), and 1e-5 where weights are 0.02."""
PRUNING_ALONE = frozenset(
    ("importance", "score", "ffn_eps", "attention_eps", "ffn_fraction", "attention_fraction", "scope", "head_score", "veto")
    + ("ablation", "compensate", "candidates", "retain_weight", "gradient_tokens", "iterative", "max_seconds")
    + ("checkpoint_every", "bos", "block_steps", "evaluation_doublings")
)
"""Settings that say something about pruning alone: to set one of them is to mean pruning."""
BUDGET: Mapping[str, Any] = {"disruption_budget": 0.1}
"""Its budget on the retain corpus beside those of pruning."""


@dataclass(frozen=True)
class ChosenMethod:
    """What `auto` is for one model."""

    names: tuple[str, ...]
    settings: dict[str, Any]
    """All settings of the run, those of the caller first."""
    first_look: Mapping[str, Any] = field(default_factory=dict)
    """What the preset `quick` makes of the settings that the caller left open."""
    lines: tuple[str, ...] = ()
    """Which method `auto` is and why; nothing where the caller chose."""
    with_own_text: bool = False
    """Whether text that the model writes itself is retained beside `general`, where the caller names no retain corpus."""
    instead: UnlearnConfig | None = None
    """How to prune where training takes nothing inside the budget; None where the caller set something of training."""

    def retaining(
        self, corpora: Opened, model: PreTrainedModel, write: Callable[[Opened], Opened], *, named: bool, progress: bool
    ) -> Opened:
        """Retain text of the model's own too, which holds what it does far beyond one corpus.

        Args:
            corpora: What is forgotten, and what is retained.
            model: The model.
            write: Lets the model write what is retained of its own text.
            named: Whether the caller said what is retained.
            progress: Whether to say so where nothing that it writes is of use, and it is left out.

        Returns:
            Both.

        Raises:
            CorpusError: The caller asked for text of the model's own, and it writes nothing of use.
        """
        gone, kept = corpora
        named = named or kept.name != GENERAL or not self.with_own_text or not model.can_generate()
        if named or isinstance(gone, ImageClasses):
            return write(corpora)
        try:
            return write((gone, corpus([GENERAL, OWN])))
        except CorpusError as error:
            announce(f"self: left out. {error}", progress=progress)
            return corpora


def choose(  # noqa: PLR0913 (what a choice depends on)
    names: tuple[str, ...],
    model: PreTrainedModel | None,
    groups: tuple[NeuronGroup, ...],
    task: Task,
    config: UnlearnConfig | str,
    settings: Mapping[str, Any],
) -> ChosenMethod:
    """Choose the method for a model where the caller left it open.

    Args:
        names: The methods that are asked for.
        model: The model; None where it is not loaded yet, and is taken for one that can be trained.
        groups: Its neuron groups.
        task: What it predicts.
        config: Settings, or the name of a preset.
        settings: Single settings of the caller.

    Returns:
        The method, with its settings.
    """
    if names != (AUTO,):
        return ChosenMethod(names, dict(settings))
    why_not = _why_no_training(model, groups, task, config, settings)
    if why_not is not None:
        return ChosenMethod((PRUNE,), dict(settings), lines=(f"method: prune, as {why_not}",))
    line = f"method: {TRAINED} with KL to the original on retain, which forgets most for its disruption (`auto`)"
    found: dict[str, Any] = {**COMPOSITION, **BUDGET, **(FIRST_LOOK if config == "quick" else {})}
    if model is not None:
        found["learning_rate"] = rate_for(model, groups) * (2 if config == "quick" else 1)
    pruned = set(settings) <= set(UnlearnConfig.model_fields)
    instead = UnlearnConfig.resolve(config, **settings) if pruned else None
    quick = {name: value for name, value in FIRST_LOOK.items() if name not in settings}
    return ChosenMethod((TRAINED,), found | dict(settings), quick, (line,), with_own_text=True, instead=instead)


def rate_for(model: PreTrainedModel, groups: tuple[NeuronGroup, ...]) -> float:
    """The learning rate of the composition for weights as large as a model's.

    Args:
        model: The model.
        groups: Its neuron groups, which tell where its layers are.

    Returns:
        `RELATIVE_RATE` times the root mean square of all matrices in layers, to two digits.
    """
    weights = [model.get_parameter(name).detach() for name in matrices_in_layers(model, groups)]
    squares = sum(float(weight.float().square().sum(dtype=torch.float64)) for weight in weights)
    return float(f"{RELATIVE_RATE * math.sqrt(squares / sum(weight.numel() for weight in weights)):.1e}")


def _why_no_training(
    model: PreTrainedModel | None,
    groups: tuple[NeuronGroup, ...],
    task: Task,
    config: UnlearnConfig | str,
    settings: Mapping[str, Any],
) -> str | None:
    """Why only pruning will do; None where weights can be trained."""
    if task != "next token":
        return f"the model predicts a {task}"
    if place()[1] > 1:
        return "several processes run"
    given = set(settings) | (set() if isinstance(config, str) else config.model_fields_set)
    if of_pruning := sorted(given & PRUNING_ALONE):
        return f"`{of_pruning[0]}` is a setting of pruning"
    if config == "paper":
        return "the preset `paper` is pruning"
    if model is None:
        return None
    try:
        check_in_memory(model, groups)
    except MaskError:
        return "the weights are quantized, offloaded or sharded, and cannot be trained"
    needed, free = training_bytes(model), free_bytes(model.device)
    if needed > free:
        return f"training needs {needed / 2**30:.1f} GiB besides the model, and {free / 2**30:.1f} GiB are free"
    return None


def training_bytes(model: PreTrainedModel) -> int:
    """The memory that training all weights takes besides the model, activations left out.

    Args:
        model: The model.

    Returns:
        Bytes of gradients, of two moments in float32, and of float32 copies where weights are in another dtype.
    """
    trained = {id(one): one for one in model.parameters() if one.is_floating_point()}.values()
    return sum(one.numel() * (8 + one.element_size() + (0 if one.dtype == torch.float32 else 4)) for one in trained)


def free_bytes(device: torch.device) -> int:
    """The memory that is free where a model is.

    Args:
        device: Where.

    Returns:
        Bytes.
    """
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else int(psutil.virtual_memory().available)
