"""Time and memory of the stages of unlearning, from settings and the size of the model alone.

Work is counted in parameters times tokens, and memory in tensors; docs/how-to/recipes.md says how far off they are.
"""

from hf_untangle.configs.attack import AttackConfig, attack_work, trainings
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.configs.robustify import RobustifyConfig
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batch_size import first_size, of_backward_pass
from hf_untangle.methods.choose import PRUNE
from hf_untangle.methods.cost import cost_of
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.methods.work import steps_of, tokens_of, unlearning_work
from hf_untangle.recipes.model_size import ModelSize
from hf_untangle.recipes.plan import Stage
from hf_untangle.reporting.formatting import amount

COLLECTING = 1.25
"""What a pass that collects statistics costs, relative to a bare one (measured: 1.03 in float32, 1.27 in bfloat16)."""
TRAINING = 2.5
"""What a training costs, relative to passes forward and back to the activations: casts, gradients of weights or the products of
an adapter, and the optimizer (measured: 2.7 for all weights of SmolLM2; an adapter took as long)."""
PROGRAM = 5 * 10**8
"""Bytes of Python, torch and transformers themselves."""
LOGITS = 2**27
"""Bytes of logits that an evaluation holds at once."""
KEPT, COPIES = 3, 4
"""How often a backward pass holds the activations, and the logits in float32: values, what the graph keeps, gradients."""


def unlearning_stages(size: ModelSize, config: UnlearnConfig) -> tuple[Stage, ...]:
    """Estimate loading, searching and judging.

    Statistics are read off passes of the base model; the gradients that predict the loss, and every evaluation, need the
    head too.

    Args:
        size: The model.
        config: The settings.

    Returns:
        Three stages.
    """
    whole, work = size.body + size.head, unlearning_work((PRUNE,), config, MethodConfig(), tokens_of(config))
    read, predicted, judged = (int(work[kind]) for kind in ("statistics", "gradients", "forward"))
    batch = first_size(config.batch_size, config.block_size)
    graph = graph_bytes(size, int(of_backward_pass(batch, config.block_size)) * config.block_size)
    at_once = pass_bytes(size, batch * config.block_size)
    return (
        Stage("load", f"{amount(size.parameters)} parameters, {str(size.dtype)[6:]}", memory=PROGRAM + size.weights),
        Stage(
            "unlearn",
            f"{config.steps} steps: statistics of {amount(read)} tokens, gradients on {amount(predicted)}",
            forward=int(COLLECTING * read * size.body),
            backward=predicted * whole,
            memory=PROGRAM + size.weights + max(graph, at_once),
        ),
        Stage(
            "evaluate",
            f"{amount(judged)} tokens, with random masks of equal size beside the result",
            forward=judged * whole,
            memory=PROGRAM + size.weights + at_once + LOGITS,
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
    batch, whole = config.block_size * config.batch_size, size.body + size.head
    tokens = config.steps * config.passes * batch
    copies = 4 * 4 * size.parameters if config.method == "full" else size.weights
    teacher = size.weights if config.distill else 0
    return Stage(
        "repair",
        f"{config.method}, {config.steps} steps, {amount(tokens)} tokens",
        forward=(2 * test_tokens + (tokens if config.distill else 0)) * whole,
        backward=int(TRAINING * tokens * whole),
        memory=PROGRAM + size.weights + copies + teacher + graph_bytes(size, batch),
    )


def robustify_stage(size: ModelSize, config: RobustifyConfig, test_tokens: int) -> Stage:
    """Estimate `robustify`, where its tolerance is not met before all tokens are read.

    The student is a copy in float32, with a gradient and two moments per weight; the unlearned model beside it is its teacher.

    Args:
        size: The model.
        config: The settings.
        test_tokens: Tokens that each evaluation reads.

    Returns:
        The stage.
    """
    whole, tokens = size.body + size.head, config.distilled_tokens
    return Stage(
        "robustify",
        f"strength {config.strength:g}, at most {amount(tokens)} tokens",
        forward=(2 * test_tokens + config.read_tokens) * whole,
        backward=int(TRAINING * tokens * whole),
        memory=PROGRAM + size.weights + 4 * 4 * size.parameters + graph_bytes(size, config.block_size * config.batch_size),
    )


def attack_stage(size: ModelSize, config: AttackConfig) -> Stage:
    """Estimate all attacks: most of their time goes into training every model, in every way and for every seed.

    Beside the model stand the original, the copy that is attacked and, for a failure, a copy of its weights.

    Args:
        size: The model.
        config: The settings.

    Returns:
        The stage; its time is not cut to the time limits.
    """
    work, whole, batch = attack_work(config), size.body + size.head, config.block_size * config.batch_size
    full = "full" in (*config.relearn_methods, config.method)
    copies = 4 * 4 * size.parameters if full else size.weights
    return Stage(
        "attack",
        f"{', '.join(config.attacks)}: {trainings(config)} trainings of {config.steps} steps",
        forward=int(work["forward"] * whole),
        backward=int(TRAINING * work["training"] * whole),
        memory=PROGRAM + 3 * size.weights + copies + graph_bytes(size, batch),
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
    """Estimate what a pass backward needs: the activations of all layers, and the logits in float32.

    Args:
        size: The model.
        tokens: Tokens in the pass.

    Returns:
        Bytes.
    """
    return KEPT * size.layers * pass_bytes(size, tokens) + COPIES * 4 * tokens * size.vocabulary


def method_stage(size: ModelSize, name: str, own: MethodConfig, config: UnlearnConfig) -> Stage:
    """Estimate one method beside pruning, its search for a learning rate and its judgements included.

    Args:
        size: The model.
        name: A key of `METHODS`.
        own: The settings of the method.
        config: The settings of text and budgets.

    Returns:
        The stage, as if no step broke the budget.
    """
    method, whole = own.apply_to(name), size.body + size.head
    cost, row = cost_of(method), config.block_size
    steps, judgements = steps_of(name, own)
    tokens = min(config.tokens, own.steps * own.step_rows * row)
    judged = 2 * config.evaluation_tokens * (judgements + config.bisections + 4 + config.controls)
    passes = cost.per_step * steps * own.step_rows * row + cost.once * tokens
    batch = first_size(config.batch_size, row) * row
    written = size.weights if method.writes in ("all", "matrices", "ffn", "filtered") else size.weights // 10
    return Stage(
        name,
        f"{steps} steps of {own.step_rows} rows, {amount(judged)} tokens judged; {cost.reference} kept of the original",
        forward=int((passes + judged) * whole),
        memory=PROGRAM + size.weights + int(cost.trained * written) + graph_bytes(size, batch),
    )
