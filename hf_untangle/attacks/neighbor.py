"""Text near to what was forgotten: did the capability go, or one corpus of it?"""

from collections.abc import Iterator

from hf_untangle.attacks.context import Scene
from hf_untangle.data.batches import token_blocks
from hf_untangle.records.attacks import Reading

NEIGHBORS: dict[str, str] = {"code": "other-code", "python": "other-code"}
"""The named corpus that is near to another one: programs in other languages for those in Python."""


def neighbor(scene: Scene) -> Iterator[Reading | str]:
    """Measure every model on a held-out corpus near to the forget corpus.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows of the neighbor, or that no neighbor is known.
    """
    if scene.neighbor is None:
        yield f"No corpus near to {scene.forget.corpus.name} is known: pass one as `neighbor=`, such as a paraphrase of it."
        return
    blocks = token_blocks(scene.neighbor, scene.tokenizer, tokens=scene.config.evaluation_tokens, block_size=scene.forget.width)
    for who, seed, model in scene.victims():
        yield Reading(model=who, condition=blocks.corpus.name, at=1, forget=scene.knows(model, blocks), seed=seed)
