"""The logit lens on hidden states: does an inner layer still know what the output does not say?"""

from collections.abc import Iterator

from hf_untangle.attacks.context import Scene
from hf_untangle.evaluation.logit_lens import layer_metrics
from hf_untangle.records.attacks import Reading


def logit_lens(scene: Scene) -> Iterator[Reading]:
    """Read every layer of every model through its own final norm and head.

    Args:
        scene: The models, text and settings.

    Yields:
        What each layer knows of the forget corpus; the last one is what the model says.
    """
    for who, seed, model in scene.victims():
        layers = layer_metrics(model, scene.forget, batch_size=scene.config.batch_size)
        for layer, metrics in enumerate(layers):
            yield Reading(model=who, condition=f"layer {layer}", at=layer, forget=metrics, seed=seed)
