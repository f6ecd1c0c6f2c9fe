"""How much work attacks are, from their settings alone."""

from hf_untangle.configs.attack import AttackConfig
from hf_untangle.progress import Work

KINDS = 3
"""Models that are attacked: the result, the original and a random mask; a gold model makes four."""


def trainings(config: AttackConfig) -> int:
    """Count the trainings of all attacks.

    Args:
        config: The settings.

    Returns:
        How many models are trained.
    """
    runs = KINDS * config.seeds
    searched = runs + (KINDS if config.tune_all else 1) * (len(config.relearnings()) - 1)
    per_attack = {"relearn": searched, "held-out-facts": searched, "benign": runs}
    return sum(per_attack.get(name, 0) for name in config.attacks)


def attack_work(config: AttackConfig) -> Work:
    """Count what attacks do when none meets its time limit.

    Args:
        config: The settings.

    Returns:
        Tokens of each kind of work.
    """
    trained, runs = trainings(config), KINDS * config.seeds
    training = config.training(config.seed)
    tokens = trained * config.steps * training.passes * training.batch_size * training.block_size
    return {"training": tokens, "forward": config.evaluation_tokens * (trained * (config.points + 1) + 8 * runs)}
