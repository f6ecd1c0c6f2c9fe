"""Open Hugging Face models up and take capabilities out of them.

    import hf_untangle as untangle

    result = untangle.unlearn(model, forget="code")
    result.save_pretrained("model-without-code")

Names are imported when they are first used, so that `import hf_untangle` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_untangle.architecture.locate import neuron_groups as neuron_groups
    from hf_untangle.architecture.neurons import NeuronGroup as NeuronGroup
    from hf_untangle.data.batches import token_blocks as token_blocks
    from hf_untangle.data.corpora import corpus as corpus
    from hf_untangle.errors import UntangleError as UntangleError
    from hf_untangle.evaluation.next_token import next_token_metrics as next_token_metrics
    from hf_untangle.masks.apply import masked as masked
    from hf_untangle.masks.mask import NeuronMask as NeuronMask
    from hf_untangle.masks.removal import remove_ as remove_
    from hf_untangle.pruning.config import UnlearnConfig as UnlearnConfig
    from hf_untangle.statistics.activations import ActivationStatistics as ActivationStatistics
    from hf_untangle.statistics.collect import collect as collect
    from hf_untangle.unlearning import UnlearnResult as UnlearnResult
    from hf_untangle.unlearning import restore as restore
    from hf_untangle.unlearning import unlearn as unlearn

_HOMES = {
    "ActivationStatistics": "statistics.activations",
    "NeuronGroup": "architecture.neurons",
    "NeuronMask": "masks.mask",
    "UnlearnConfig": "pruning.config",
    "UnlearnResult": "unlearning",
    "UntangleError": "errors",
    "collect": "statistics.collect",
    "corpus": "data.corpora",
    "masked": "masks.apply",
    "neuron_groups": "architecture.locate",
    "next_token_metrics": "evaluation.next_token",
    "remove_": "masks.removal",
    "restore": "unlearning",
    "token_blocks": "data.batches",
    "unlearn": "unlearning",
}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "ActivationStatistics",
    "NeuronGroup",
    "NeuronMask",
    "UnlearnConfig",
    "UnlearnResult",
    "UntangleError",
    "collect",
    "corpus",
    "masked",
    "neuron_groups",
    "next_token_metrics",
    "remove_",
    "restore",
    "token_blocks",
    "unlearn",
]
__version__ = version("hf-untangle")


def __getattr__(name: str) -> Any:
    """Import a public name from its room."""
    if name not in _HOMES:
        raise AttributeError(f"hf_untangle has no `{name}`; its public names are {', '.join(_HOMES)}")
    return getattr(import_module(f"hf_untangle.{_HOMES[name]}"), name)
