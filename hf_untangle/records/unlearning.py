"""What a run writes down: everything that a report, a card or a later comparison needs, as plain values."""

from typing import Any, Literal

from pydantic import Field, model_validator

from hf_untangle.architecture.neurons import Kind
from hf_untangle.arguments import checked_calls
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.tokens import Task
from hf_untangle.evaluation.next_token import NextTokenMetrics
from hf_untangle.records.attacks import AttackRecord
from hf_untangle.records.base import Count, Frozen, RunRecord, Seconds, TrainingRecord, says_what_was_read
from hf_untangle.records.methods import MethodRecord, RefitRecord
from hf_untangle.records.scores import Scores as Scores


class Step(Frozen):
    """One step of a run, judged on the validation parts."""

    number: int = Field(ge=1)
    """From 1; each step removes more than the one before."""
    removed: dict[Kind, Count]
    """Neurons that are gone after this step."""
    scores: Scores
    controls: tuple[Scores, ...]
    """The same for random masks that remove as many neurons of every group; of pruning, the chosen step alone has them."""
    seconds: Seconds
    forward_tokens: Count | None = None
    """What the step ran through the model, as a number of tokens in forward passes; the first one includes what ran before
    it. None where it was not counted."""
    share: float = Field(default=1.0, gt=0, le=1)
    """The part of a full step that was taken: below 1 in the last one, where a full step would have broken the budget."""


class History(Frozen):
    """All steps of a run, and which of them was chosen."""

    base: Scores
    """The original model on the validation parts."""
    steps: tuple[Step, ...]
    chosen: int
    """Number of the step whose mask is the result."""

    @model_validator(mode="after")
    def _numbered(self) -> "History":
        """Refuse steps that are not numbered from 1, and a choice that is not among them."""
        if [step.number for step in self.steps] != list(range(1, len(self.steps) + 1)) or not 1 <= self.chosen <= len(
            self.steps
        ):
            raise ValueError(f"must have steps numbered from 1, one of them chosen, got {self.chosen} of {len(self.steps)}")
        if not self.base.forget.top1 or not self.base.retain.top1:
            raise ValueError("must begin with a model that predicts something of both corpora, got an accuracy of 0")
        return self

    @property
    def step(self) -> Step:
        """The chosen step."""
        return self.steps[self.chosen - 1]

    def max_selectivity(self) -> float:
        """The largest selectivity of any step, which is how arXiv:2403.01267 sums a run up."""
        return max(step.scores.selectivity(self.base) for step in self.steps)


class CorpusScores(Frozen):
    """One corpus by itself on its test part: a member of several, or one that was only measured."""

    use: Literal["forget", "retain", "also"]
    """Whether it is a part of what was forgotten or retained, or neither."""
    name: str
    corpus: dict[str, Any]
    """The blocks that were read."""
    before: NextTokenMetrics
    """The original model."""
    after: NextTokenMetrics
    """The model without the removed neurons."""


class Comparison(Frozen):
    """The result on the held-out test parts."""

    before: Scores
    after: Scores
    without_refit: Scores | None = None
    """The result without its refit, as steps and all controls are measured."""
    controls: tuple[Scores, ...]
    """Random masks that remove as many neurons of every group as the result does."""
    magnitude: Scores | None = None
    """A mask of this size that removes the neurons with the smallest weights."""
    retain_only: Scores | None = None
    """A mask of this size that removes the neurons which matter least to the retain corpus, whatever they are to the other."""
    by_corpus: tuple[CorpusScores, ...] = ()
    """Every corpus by itself where several were retained or forgotten, and what else was measured, such as paraphrases."""


class Continuation(Frozen):
    """How a prompt was continued by the original and by the final model, greedily."""

    prompt: str
    before: str
    after: str


class GroupCount(Frozen):
    """How many neurons of one group were removed."""

    name: str
    kind: Kind
    layer: Count
    removed: Count
    neurons: Count

    @model_validator(mode="after")
    def _removes_its_own(self) -> "GroupCount":
        """Refuse more removed neurons than there are."""
        if self.removed > self.neurons:
            raise ValueError(f"must remove some of its {self.neurons} neurons, got {self.removed}")
        return self


@checked_calls
class RepairRecord(TrainingRecord):
    """A repair of a model that has unlearned."""

    before: Scores
    """The pruned model on the test parts."""
    after: Scores
    """The same once it was repaired."""


class Divergence(Frozen):
    """How far a student was from its teacher at one time, on held-out text of the retain corpus."""

    tokens: Count
    """Tokens that it had been trained on."""
    nats: float = Field(ge=0)
    """Mean KL(teacher || student) per token."""
    top1: float = Field(ge=0, le=1)
    """The student's top-1 accuracy there."""


class RobustifyRecord(RepairRecord):
    """A distillation of a model that has unlearned into its own weights, shrunk and perturbed."""

    divergences: tuple[Divergence, ...] = Field(min_length=1)
    """Student and teacher, from before the first step on."""
    forward_tokens: Count
    """What it cost, as a number of tokens in forward passes: three and one of the teacher per token, checks and own text."""

    @property
    def is_within_tolerance(self) -> bool:
        """Whether the student came as near to the unlearned model as was asked for."""
        return self.divergences[-1].nats <= float(self.settings["tolerance"])


class CompactionRecord(Frozen):
    """How removed neurons were taken out of the tensors of a result, which held them as zeros before."""

    layout: str
    """Whether all layers have the same widths (`uniform`) or each its own (`ragged`)."""
    round_to: int | None
    """FFN widths are a multiple of this."""
    parameters: Count
    """Numbers in the tensors of the smaller checkpoint; tied ones once."""
    needs_package: bool
    """Whether `hf_untangle` must be imported before the checkpoint is loaded."""
    left: dict[str, str]
    """By pattern of groups: why what was removed there still has its place, as zeros."""


class MetricsRecord(Frozen):
    """Metrics of the test parts that were asked for after the run; their names are those of `hf_untangle.evaluate`."""

    settings: dict[str, Any]
    """How much was read, and how."""
    forget: dict[str, int | float]
    """The model as it was then, on the forget corpus."""
    retain: dict[str, int | float]
    """The same on the retain corpus."""
    forget_before: dict[str, int | float] | None = None
    """The original model on the forget corpus, where it was at hand."""
    retain_before: dict[str, int | float] | None = None
    """The same on the retain corpus."""


class UnlearnRecord(RunRecord):
    """Everything about a finished run of unlearning."""

    run: Literal["unlearn"] = "unlearn"

    parameters: Count
    """Number of weights of the original model."""
    parameters_removed: Count
    """How many of them belonged to removed neurons, and are zero now."""
    still_computed: Count
    """Removed attention neurons whose value row stays, as a kept query head of the same group needs it."""
    groups: tuple[GroupCount, ...]
    config: UnlearnConfig
    corpora: dict[str, dict[str, Any]]
    """What was read, by use: `forget_train`, `retain_train`, and the same for validation and test."""
    history: History
    methods: tuple[str, ...] = ("prune",)
    """What was applied, in order."""
    training: tuple[MethodRecord, ...] = ()
    """What each method but pruning did."""
    refit: RefitRecord | None = None
    """How what is kept made up for what was removed, on the retain corpus alone; None where it did not."""
    task: Task = "next token"
    """What the model predicts, and all scores are about."""
    test: Comparison
    continuations: tuple[Continuation, ...]
    repairs: tuple[RobustifyRecord | RepairRecord, ...] = ()
    """What was done since to get the retain corpus back, or to withstand relearning, in order."""
    attacks: tuple[AttackRecord, ...] = ()
    """What was tried on the model as it is now to get the forget corpus back."""
    metrics: tuple[MetricsRecord, ...] = ()
    """What else was measured since, in order."""
    compaction: CompactionRecord | None = None
    """How the removed neurons were taken out of the tensors; None where these keep their shapes."""

    @model_validator(mode="after")
    def _names_its_corpora(self) -> "UnlearnRecord":
        """Refuse a record that does not say what was read."""
        for use in ("forget_train", "retain_train", "forget_test", "retain_test", *self.corpora):
            if not says_what_was_read(self.corpora.get(use, {})):
                raise ValueError(f"must name the corpus, its origin, source, part, license, tokens and fingerprint for {use}")
        return self

    @property
    def final(self) -> Scores:
        """The model as it is now on the test parts: pruned, and repaired where it was."""
        return self.repairs[-1].after if self.repairs else self.test.after
