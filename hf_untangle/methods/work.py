"""How much work an unlearning run is, whichever methods it has."""

from collections import Counter
from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.documents import Part
from hf_untangle.distributed import place
from hf_untangle.methods.choose import PRUNE
from hf_untangle.methods.cost import cost_of
from hf_untangle.methods.registry import Method
from hf_untangle.methods.settings import MethodConfig, statistics_rows
from hf_untangle.progress import COST, Work, WorkKind, plan_work, predict
from hf_untangle.pruning.controls import random_seeds
from hf_untangle.pruning.measuring import text_blocks
from hf_untangle.pruning.step import Pair
from hf_untangle.pruning.work import search_work, seconds_per_token

Settings = tuple[UnlearnConfig, MethodConfig]
"""Of text, budgets and pruning, and of methods that train."""


def foresee(
    model: PreTrainedModel,
    names: Sequence[str],
    chosen: Settings,
    quick: Settings,
    pairs: Mapping[Part, Pair],
    *,
    progress: bool,
) -> None:
    """Say how long all of an unlearning run will take, before anything long begins.

    Args:
        model: The model.
        names: The methods, in order.
        chosen: The settings of the run.
        quick: What they are with the preset `quick`.
        pairs: The blocks of all parts.
        progress: Whether progress is shown.
    """
    tokens: dict[Part, int] = {part: pair.forget.tokens + pair.retain.tokens for part, pair in pairs.items()}
    row = None if set(names) == {PRUNE} else row_tokens(pairs["train"])
    plan_work(unlearning_work(names, *chosen, tokens, row))
    if progress:
        fewer: dict[Part, int] = {part: min(tokens[part], asked) for part, asked in tokens_of(quick[0]).items()}
        faster = {} if quick == chosen else {"config='quick'": unlearning_work(names, *quick, fewer, row)}
        predict(lambda: seconds_per_token(model, pairs["validation"].forget), faster)


def unlearning_work(
    names: Sequence[str], config: UnlearnConfig, own: MethodConfig, tokens: Mapping[Part, int], row: float | None = None
) -> Work:
    """Count what `unlearn` does when no budget ends it early.

    Args:
        names: The methods, in order.
        config: The settings of text and budgets.
        own: The settings of methods other than pruning.
        tokens: Of both corpora, by part.
        row: Tokens of a row that training reads; as many as a block has when None.

    Returns:
        Tokens of each kind of work that this process does.
    """
    work: Counter[WorkKind] = Counter()
    row = config.block_size if row is None else row
    for name in names:
        if name == PRUNE:
            work.update(dict(search_work(config, read=tokens["train"], judged=tokens["validation"])))  # type: ignore[arg-type]
        else:
            work.update(dict(method_work(name, config, own, judged=tokens["validation"], row=row)))  # type: ignore[arg-type]
    if set(names) == {PRUNE}:
        # Random masks, that of magnitudes, and that of retain alone.
        controls = len(random_seeds(config)) + 2 if config.controls else 0
    else:
        # Random updates, and statistics of what is read beside them.
        controls = config.controls
        work["statistics"] += min(tokens["train"], round(2 * statistics_rows(own) * row))
    work["forward"] += tokens["test"] * (2 + controls)
    return {kind: count / place()[1] for kind, count in work.items()}


def row_tokens(pair: Pair) -> float:
    """Average the length of a row that training reads: of running text a block, of short questions far less.

    Args:
        pair: The rows of both corpora.

    Returns:
        Tokens, padding left out.
    """
    both = [text_blocks(blocks).attention_mask for blocks in (pair.forget, pair.retain)]
    return sum(int(one.sum()) for one in both) / sum(len(one) for one in both)


def tokens_of(config: UnlearnConfig) -> dict[Part, int]:
    """The tokens that some settings ask for.

    Args:
        config: The settings.

    Returns:
        Tokens of both corpora, by part.
    """
    return {"train": 2 * config.tokens, "validation": 2 * config.evaluation_tokens, "test": 2 * config.evaluation_tokens}


def method_work(name: str, config: UnlearnConfig, own: MethodConfig, *, judged: int, row: float) -> Work:
    """Count what a method other than pruning does, its search for a learning rate included.

    Args:
        name: A key of `METHODS`.
        config: The settings of text and budgets.
        own: The settings of the method.
        judged: Tokens of both corpora that a step is judged on.
        row: Tokens of a row that training reads.

    Returns:
        Tokens of each kind of work.
    """
    method, step = own.apply_to(name), step_tokens(own, row)
    steps, judgements = steps_of(name, own)
    return {
        "training": steps * step_work(method, step),
        # Bisections are planned when a budget breaks.
        "forward": judged * (judgements + 1) + cost_of(method).once * min(config.tokens, own.steps * step),
    }


def step_tokens(own: MethodConfig, row: float) -> int:
    """Count what a step reads of each corpus.

    Args:
        own: The settings of the method.
        row: Tokens of a row.

    Returns:
        Tokens.
    """
    return round(own.step_rows * row)


def step_work(method: Method, tokens: int) -> float:
    """Count what a training step does.

    Args:
        method: The method.
        tokens: What it reads of each corpus.

    Returns:
        Tokens of training, each of which costs as much as several in a forward pass.
    """
    return cost_of(method).per_step * tokens / COST["training"]


def steps_of(name: str, own: MethodConfig) -> tuple[int, int]:
    """Count the steps that a method takes when no budget ends it early, and how often it is judged on the way.

    Args:
        name: A key of `METHODS`.
        own: The settings of the method.

    Returns:
        Steps, those of the search for a learning rate included, and judgements.
    """
    method = own.apply_to(name)
    searched = own.learning_rate is None and method.proposals in ("descent", "task vector") and len(own.search) > 1
    steps = own.steps + (len(own.search) * min(own.trial_steps, own.steps) if searched else 0)
    return steps, steps // (own.evaluate_every if method.proposals == "descent" else 1)
