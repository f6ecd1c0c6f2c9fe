"""Types of the keywords that override single settings; written by scripts/write_settings.py."""

from typing import TypedDict

from hf_untangle.data.corpora import Part
from hf_untangle.data.documents import ChatMode


class EvaluationSettings(TypedDict, total=False):
    """Single fields of `EvaluationConfig`, which says what each is."""

    tokens: int
    part: Part
    block_size: int
    prompts: int
    max_new_tokens: int
    batch_size: int
    limit: int | None
    chat: ChatMode
