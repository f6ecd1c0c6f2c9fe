"""How much work a search is, in tokens of each kind, and how fast this machine gets through it."""

import time

from transformers import PreTrainedModel

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.blocks import Blocks
from hf_untangle.distributed import place
from hf_untangle.evaluation.prediction import prediction_metrics
from hf_untangle.progress import Work
from hf_untangle.pruning.step import needs_gradients

TIMED = 2
"""Blocks of the first batch, by which the whole run is predicted: few, as it is over before anybody has to wait for it."""


def search_work(config: UnlearnConfig, *, read: int, judged: int) -> Work:
    """Count what `search_mask` does when no budget ends it early.

    Args:
        config: The settings.
        read: Tokens of both corpora that statistics are collected on.
        judged: Tokens of both corpora that a step is judged on.

    Returns:
        Tokens of each kind of work.
    """
    looks = config.steps if config.iterative else 1
    gradients = needs_gradients(config)
    differentiated = min(read, config.gradient_tokens + config.gradient_tokens // 2) if gradients else 0
    # After the first step the passes of gradients give the statistics too, where there are any.
    collected = read if gradients else looks * read
    # The original, every step, parts of the last one, and random masks of the chosen one.
    judgements = 1 + config.steps + config.bisections + config.controls
    return {"statistics": collected, "gradients": looks * differentiated, "forward": judgements * judged}


def seconds_per_token(model: PreTrainedModel, blocks: Blocks) -> float | None:
    """Time a first batch.

    Args:
        model: The model, which is left as it was.
        blocks: What it is to read.

    Returns:
        Seconds of a pass forward per token of this process; None where the model cannot be timed on so little.
    """
    some = blocks[: TIMED * place()[1]]
    try:
        # The first pass of all is slower than any other.
        prediction_metrics(model, some, batch_size=TIMED, progress=False)
        start = time.perf_counter()
        prediction_metrics(model, some, batch_size=TIMED, progress=False)
        return (time.perf_counter() - start) / max(1, some.mine().tokens)
    except Exception:  # Whatever is wrong with so little text, an estimate is no reason to fail.
        return None
