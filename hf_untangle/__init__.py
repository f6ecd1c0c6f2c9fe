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
    from hf_untangle.callbacks.translation import TranslationCallback as TranslationCallback
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
    from hf_untangle.translation.kan.convert import to_kan_ as to_kan_
    from hf_untangle.translation.kan.convert import to_relu_ as to_relu_
    from hf_untangle.translation.kan.kan_to_relu import kan_to_relu as kan_to_relu
    from hf_untangle.translation.kan.relu_to_kan import relu_to_kan as relu_to_kan
    from hf_untangle.translation.kan.splines import PiecewiseLinearKANLayer as PiecewiseLinearKANLayer
    from hf_untangle.translation.shallow.patterns import index_patterns as index_patterns
    from hf_untangle.translation.shallow.three_layer import three_layer as three_layer
    from hf_untangle.unlearning import UnlearnResult as UnlearnResult
    from hf_untangle.unlearning import unlearn as unlearn

_HOMES = {
    "ActivationStatistics": "statistics.activations",
    "NeuronGroup": "architecture.neurons",
    "NeuronMask": "masks.mask",
    "PiecewiseLinearKANLayer": "translation.kan.splines",
    "TranslationCallback": "callbacks.translation",
    "UnlearnConfig": "pruning.config",
    "UnlearnResult": "unlearning",
    "UntangleError": "errors",
    "collect": "statistics.collect",
    "corpus": "data.corpora",
    "index_patterns": "translation.shallow.patterns",
    "kan_to_relu": "translation.kan.kan_to_relu",
    "masked": "masks.apply",
    "neuron_groups": "architecture.locate",
    "next_token_metrics": "evaluation.next_token",
    "relu_to_kan": "translation.kan.relu_to_kan",
    "remove_": "masks.removal",
    "three_layer": "translation.shallow.three_layer",
    "to_kan_": "translation.kan.convert",
    "to_relu_": "translation.kan.convert",
    "token_blocks": "data.batches",
    "unlearn": "unlearning",
}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "ActivationStatistics",
    "NeuronGroup",
    "NeuronMask",
    "PiecewiseLinearKANLayer",
    "TranslationCallback",
    "UnlearnConfig",
    "UnlearnResult",
    "UntangleError",
    "collect",
    "corpus",
    "index_patterns",
    "kan_to_relu",
    "masked",
    "neuron_groups",
    "next_token_metrics",
    "relu_to_kan",
    "remove_",
    "three_layer",
    "to_kan_",
    "to_relu_",
    "token_blocks",
    "unlearn",
]
__version__ = version("hf-untangle")


def __getattr__(name: str) -> Any:
    """Import a public name from its room."""
    if name not in _HOMES:
        raise AttributeError(f"hf_untangle has no `{name}`; its public names are {', '.join(_HOMES)}")
    return getattr(import_module(f"hf_untangle.{_HOMES[name]}"), name)
