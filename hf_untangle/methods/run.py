"""Run a method inside the budget: search for its learning rate in short trials, then take its steps and keep the best."""

import logging
import time
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batch_size import first_size
from hf_untangle.errors import BudgetError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.methods import job
from hf_untangle.methods.combined_loss import Ask, Objective, prepare
from hf_untangle.methods.descent import Pace, rows_at_a_time
from hf_untangle.methods.job import Job
from hf_untangle.methods.low_rank import projected_out
from hf_untangle.methods.registry import Method, Proposals
from hf_untangle.methods.repselect import filtered_gradient
from hf_untangle.methods.set_difference import zeroed_set_difference
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.methods.snapshot import Snapshot
from hf_untangle.methods.task_vector import minus_task_vector
from hf_untangle.methods.trial import Judged, Referee, Trial, run_trial
from hf_untangle.methods.work import row_tokens, step_tokens, step_work
from hf_untangle.methods.writes import Permission, Written, writable
from hf_untangle.progress import change, phase, track
from hf_untangle.pruning.judging import Origin, judge
from hf_untangle.pruning.measuring import text_blocks
from hf_untangle.pruning.step import Pair
from hf_untangle.records.methods import JudgedStep, LearningRateTrial, MethodRecord
from hf_untangle.records.scores import Scores

PROPOSALS: dict[Proposals, job.Proposals] = {
    "descent": job.gradient_steps,
    "task vector": minus_task_vector,
    "set difference": zeroed_set_difference,
    "low rank": projected_out,
    "repselect": filtered_gradient,
}
"""What proposes the changes of each kind of method."""


logger = logging.getLogger("hf_untangle")

LORA_FACTOR = 10.0
"""How much larger the learning rate of an adapter is than that of all weights."""


@dataclass(frozen=True, eq=False)
class Setting:
    """Everything around a method: the model, its text, its budgets, and what other methods have removed."""

    model: PreTrainedModel
    groups: tuple[NeuronGroup, ...]
    tokenizer: PreTrainedTokenizerBase
    train: Pair
    validation: Pair
    origin: Origin
    """The original model on the validation parts."""
    config: UnlearnConfig
    own: MethodConfig
    held: NeuronMask | None = None
    """Neurons that were removed before, and stay at zero."""
    neurons: NeuronMask | None = None
    """With writes=neurons, a mask that removes the neurons which may be written."""
    progress: bool = True


def run_method(name: str, setting: Setting) -> MethodRecord:
    """Run a method on a model, in place.

    Args:
        name: A key of `METHODS`.
        setting: The model, the text and the budgets.

    Returns:
        What was tried and what was chosen. The model is written to: the caller undoes that on failure.

    Raises:
        BudgetError: No step stays inside the budget, or the best of them takes no more from forget than from retain.
    """
    start, own = time.perf_counter(), setting.own
    method, size = own.apply_to(name), first_size(setting.config.batch_size, setting.config.block_size)
    rows = own.steps * own.step_rows
    forget, retain = (text_blocks(blocks).first(rows) for blocks in (setting.train.forget, setting.train.retain))
    layer = own.layer if own.layer is not None else max(group.layer for group in setting.groups) // 3
    ask = Ask(setting.groups, setting.tokenizer, layer, own.alternatives, size, setting.config.seed)
    objective = prepare(setting.model, method, forget, retain, ask)
    permission = Permission(
        setting.groups, setting.held, setting.neurons, own.modules, layer, own.rank, own.components, setting.config.seed
    )
    with writable(setting.model, method.writes, permission) as written:
        rate, trials = _learning_rate(method, setting, objective, written, permission)
        phase(name)
        trial = _trial(setting, objective, written, permission, rate, own.steps)
        if trial.best is None or trial.weights is None or trial.selectivity(setting.origin.scores) <= 0:
            raise BudgetError(_nothing(name, trial, setting))
        trial.weights.restore_()
        written.finish_()
    return MethodRecord(
        method=name,
        settings=own.model_dump(mode="json") | {"writes": method.writes, "retain_objective": method.retain},
        changed=own.model_dump(mode="json", exclude_defaults=True),
        learning_rate=None if method.proposals in EDITS else rate,
        trials=trials,
        steps=tuple(_record(judged) for judged in trial.judged),
        chosen=1 + trial.judged.index(trial.best),
        ended=trial.ended,
        written=sum(part.values().numel() for part in written.parts),
        rows=min(rows, len(forget.input_ids)),
        seconds=time.perf_counter() - start,
    )


EDITS = ("set difference", "low rank", "repselect")
"""Kinds of proposals that have no learning rate."""


def _learning_rate(
    method: Method, setting: Setting, objective: Objective, written: Written, permission: Permission
) -> tuple[float, tuple[LearningRateTrial, ...]]:
    """The learning rate: what is set, or the one whose short trial takes most inside the budget."""
    own = setting.own
    default = method.learning_rate * (LORA_FACTOR if method.writes == "lora" else 1)
    if own.learning_rate is not None or method.proposals in EDITS or len(own.search) < 2:
        return own.learning_rate or default * (own.search[0] if len(own.search) == 1 else 1), ()
    origin, base = Snapshot(written.parts), setting.origin.scores
    found: list[LearningRateTrial] = []
    for number, factor in enumerate(sorted(own.search), 1):
        phase(f"learning rate {number} of {len(own.search)}")
        trial = _trial(setting, objective, written, permission, factor * default, min(own.trial_steps, own.steps))
        origin.restore_()
        best = None if trial.best is None else trial.best.scores
        found.append(LearningRateTrial(learning_rate=factor * default, steps=_last(trial), best=best, ended=trial.ended))
        logger.info("Learning rate %.2g: %s", factor * default, _in_words(found[-1], setting))
    chosen = max(found, key=lambda one: float("-inf") if one.best is None else one.best.selectivity(base))
    return chosen.learning_rate, tuple(found)


def _trial(setting: Setting, objective: Objective, written: Written, permission: Permission, rate: float, steps: int) -> Trial:
    """Run the method with one learning rate."""
    own, config = setting.own, setting.config
    method, size = objective.method, rows_at_a_time(setting.model, written, objective, config.batch_size)
    pace = Pace(rate, steps, own.step_rows, size, own.max_grad_norm, method.optimizer, config.seed)
    proposals = PROPOSALS[method.proposals](Job(setting.model, written, objective, pace, permission))

    def measure() -> Scores:
        return judge(setting.model, setting.validation, batch_size=config.batch_size, progress=False, origin=setting.origin)

    # Strengths double, so that each of them is judged.
    every = own.evaluate_every if method.proposals == "descent" else 1
    what = f"{method.forget or method.proposals} at {rate:.2g}"
    tokens = step_work(method, step_tokens(own, row_tokens(setting.train)))
    referee = Referee(
        setting.origin.scores, config, measure, setting.validation.forget.tokens + setting.validation.retain.tokens
    )
    with track(what, steps, unit="step", progress=setting.progress, kind="training", weight=tokens) as bar:
        return run_trial(written, proposals, referee, every=every, steps=steps, bar=bar)


def _record(judged: Judged) -> JudgedStep:
    """A judged step as plain values."""
    return JudgedStep(
        number=judged.number,
        scores=judged.scores,
        loss=judged.loss,
        strength=judged.strength,
        share=judged.share,
        seconds=judged.seconds,
    )


def _last(trial: Trial) -> int:
    """The number of the last step that was judged."""
    return trial.judged[-1].number if trial.judged else 0


def _in_words(trial: LearningRateTrial, setting: Setting) -> str:
    """What a short trial found."""
    if trial.best is None:
        return "no step inside the budget"
    base = setting.origin.scores
    best = trial.best
    return f"forget {change(best.forget_drop(base))}, retain {change(best.retain_drop(base))}; {trial.ended}"


def _nothing(name: str, trial: Trial, setting: Setting) -> str:
    """What to say where no step is worth keeping."""
    base, config = setting.origin.scores, setting.config
    if trial.best is None:
        seen = trial.judged[-1].scores if trial.judged else None
        cost = "its first step is not finite" if seen is None else _cost(seen, base)
        return (
            f"At least one step of `{name}` must stay inside the budget ({_budget(config)}), but {cost}. The model is as it "
            "was. Allow a larger budget, or lower the learning_rate."
        )
    return (
        f"The forget corpus must lose more than the retain corpus by `{name}`, but inside the budget ({_budget(config)}) "
        f"{_cost(trial.best.scores, base)}. The model is as it was. Allow a larger budget, more steps, or another rate."
    )


def _cost(scores: Scores, base: Scores) -> str:
    """What a step costs, in words."""
    disruption = "" if scores.disruption is None else f" and {scores.disruption:.3g} nats of disruption"
    return f"forget changes by {-scores.forget_drop(base):+.1%} for {-scores.retain_drop(base):+.1%} of retain{disruption}"


def _budget(config: UnlearnConfig) -> str:
    """The budgets in words."""
    disruption = "" if config.disruption_budget is None else f", {config.disruption_budget:g} nats of disruption"
    return f"a retain drop of {config.retain_budget:.1%}, {config.perplexity_budget:g} times the perplexity{disruption}"
