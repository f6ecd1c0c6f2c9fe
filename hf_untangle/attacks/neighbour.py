"""Text near to what was forgotten: did the capability go, or one corpus of it?"""

from collections.abc import Iterator

from hf_untangle.attacks.scene import Scene
from hf_untangle.data.batches import token_blocks
from hf_untangle.pruning.attack_record import Reading

NEIGHBOURS: dict[str, str] = {"code": "other-code", "python": "other-code"}
"""The named corpus that is near to another one: programs in other languages for those in Python."""


def neighbour(scene: Scene) -> Iterator[Reading | str]:
    """Measure every model on a corpus near to the forget corpus, which nothing was chosen by.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows of the neighbour, or that no neighbour is known.
    """
    if scene.neighbour is None:
        yield f"No corpus near to {scene.forget.corpus.name} is known: pass one as `neighbour=`, such as a paraphrase of it."
        return
    blocks = token_blocks(
        scene.neighbour, scene.tokenizer, tokens=scene.config.evaluation_tokens, block_size=scene.forget.width
    )
    for who, seed, model in scene.victims():
        yield Reading(model=who, condition=blocks.corpus.name, at=1, forget=scene.knows(model, blocks), seed=seed)
