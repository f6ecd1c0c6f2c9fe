"""Time and memory of the stages of unlearning, from settings and the size of the model alone."""

from hf_untangle.attacks.config import AttackConfig
from hf_untangle.data.fitting import first_size
from hf_untangle.jobs.machine import ModelSize
from hf_untangle.jobs.plan import Stage
from hf_untangle.pruning.comparison import random_seeds
from hf_untangle.pruning.config import UnlearnConfig
from hf_untangle.repairing.config import RepairConfig
from hf_untangle.reporting.numbers import amount

FORWARD, BACKWARD_TO_ACTIVATIONS, BACKWARD_TO_WEIGHTS = 2, 2, 2
"""Operations a token and parameter: of a pass forward, of gradients of activations, and of gradients of weights."""
LOGITS = 2**27
"""Bytes of logits that an evaluation holds at once."""


def unlearning_stages(size: ModelSize, config: UnlearnConfig) -> tuple[Stage, ...]:
    """Estimate loading, searching and judging.

    A pass forward takes 2 operations a token and parameter; the gradients of activations that predict the loss take 2 more.

    Args:
        size: The model.
        config: The settings.

    Returns:
        Three stages.
    """
    gathers = config.steps if config.iterative else 1
    read, predicted = 2 * gathers * config.tokens, gathers * (config.gradient_tokens + config.gradient_tokens // 2)
    # The original, every step and its random masks; then the original, the result and its controls on the test parts.
    tested = 2 + (len(random_seeds(config)) + 2 if config.controls else 0)
    judged = 2 * config.evaluation_tokens * (1 + config.steps * (1 + config.controls) + tested)
    batch = first_size(config.batch_size, config.block_size) * config.block_size
    operations = FORWARD * read + (FORWARD + BACKWARD_TO_ACTIVATIONS) * predicted
    return (
        Stage("load", f"{amount(size.parameters)} parameters, {str(size.dtype)[6:]}", memory=size.weights),
        Stage(
            "unlearn",
            f"{config.steps} steps: statistics of {amount(read)} tokens, gradients on {amount(predicted)}",
            operations * size.parameters,
            size.weights + graph_bytes(size, batch),
        ),
        Stage(
            "evaluate",
            f"{amount(judged)} tokens, with {config.controls} random masks a step",
            FORWARD * judged * size.parameters,
            size.weights + pass_bytes(size, batch) + LOGITS,
        ),
    )


def repair_stage(size: ModelSize, config: RepairConfig, test_tokens: int) -> Stage:
    """Estimate a repair and its two evaluations.

    Training all weights holds a copy of them in float32, with a gradient and two moments each; a low-rank adapter trains
    beside the weights, of which a copy is kept for a failure.

    Args:
        size: The model.
        config: The settings.
        test_tokens: Tokens that each evaluation reads.

    Returns:
        The stage.
    """
    batch = config.block_size * config.batch_size
    tokens = config.steps * config.passes * batch
    each = FORWARD + BACKWARD_TO_ACTIVATIONS + (BACKWARD_TO_WEIGHTS if config.method == "full" else 0)
    each += FORWARD if config.distill else 0
    copies = 4 * 4 * size.parameters if config.method == "full" else size.weights
    teacher = size.weights if config.distill else 0
    return Stage(
        "repair",
        f"{config.method}, {config.steps} steps, {amount(tokens)} tokens",
        (each * tokens + FORWARD * 2 * test_tokens) * size.parameters,
        size.weights + copies + teacher + graph_bytes(size, batch),
    )


def attack_stage(size: ModelSize, config: AttackConfig) -> Stage:
    """Estimate all attacks: most of their time goes into training every model for every seed, twice.

    Beside the model stand the original, the copy that is attacked and, for a failure, a copy of its weights.

    Args:
        size: The model.
        config: The settings.

    Returns:
        The stage; its time is not cut to the time limits.
    """
    runs, training = 3 * config.seeds, config.training(config.seed)
    batch = config.block_size * config.batch_size
    trainings = sum(name in ("relearn", "benign") for name in config.attacks)
    trained = trainings * runs * config.steps * training.passes * batch
    judged = runs * config.evaluation_tokens * (trainings * (config.points + 1) + 8)
    each = FORWARD + BACKWARD_TO_ACTIVATIONS + (BACKWARD_TO_WEIGHTS if config.method == "full" else 0)
    copies = 4 * 4 * size.parameters if config.method == "full" else size.weights
    return Stage(
        "attack",
        f"{', '.join(config.attacks)}: {trainings * runs} trainings of {config.steps} steps",
        (each * trained + FORWARD * judged) * size.parameters,
        3 * size.weights + copies + graph_bytes(size, batch),
    )


def pass_bytes(size: ModelSize, tokens: int) -> int:
    """Estimate the activations of a pass forward: the widest layer, in and out of its FFN.

    Args:
        size: The model.
        tokens: Tokens in the pass.

    Returns:
        Bytes.
    """
    return tokens * (3 * size.intermediate + 4 * size.hidden) * size.dtype.itemsize


def graph_bytes(size: ModelSize, tokens: int) -> int:
    """Estimate what a pass backward needs: the activations of all layers, and the logits, twice in float32.

    Args:
        size: The model.
        tokens: Tokens in the pass.

    Returns:
        Bytes.
    """
    return size.layers * pass_bytes(size, tokens) * 2 + 2 * 4 * tokens * size.vocabulary
