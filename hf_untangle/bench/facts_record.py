"""What the benchmark of facts found, as plain values."""

from typing import Annotated, Any

from pydantic import Field

from hf_untangle.records.base import Frozen, Seconds

Share = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""


class FactsScores(Frozen):
    """What one model knows."""

    probability: Share
    """P(answer) on the forget questions, normalized by length."""
    paraphrase_probability: Share
    """P(paraphrased answer) on the paraphrased questions."""
    cloze_probability: Share
    """P(value) at the end of a sentence that was never trained on."""
    extraction_strength: Share
    rouge: Share
    """ROUGE-L recall of what the model writes to forget questions."""
    truth_ratio: Share
    """Mean of min(R, 1/R) on the forget questions."""
    ratios: tuple[float, ...]
    """R of every forget question, in order."""
    min_k_auc: Share
    """Of telling forget answers from answers on unseen entities, by the lowest 40% of log-probabilities as TOFU does."""
    kept: dict[str, Share]
    """The nine numbers that utility is the harmonic mean of: probability, ROUGE and truth ratio on three kept sets."""
    utility: Share


class Relearned(Frozen):
    """What half of the forgotten facts brought back."""

    trained: Share
    """Cloze probability on the entities that were trained on: no training had these sentences."""
    others: Share
    """The same on the other half of the forgotten entities, which were not."""


class FactsRow(Frozen):
    """One model of the table."""

    name: str
    scores: FactsScores | None
    """None where no step stayed inside the budget."""
    relearned: Relearned | None = None
    seconds: Seconds = 0.0
    """Of making the model."""
    note: str = ""
    """What there is to say of it, such as why there is none."""


class FactsResult(Frozen):
    """A row with what needs gold and original."""

    row: FactsRow
    forget_quality: Share | None = None
    """p-value of the two-sample test against gold."""
    utility_kept: float | None = None
    """Utility relative to that of the original."""
    privacy_leakage: float | None = None
    """In percent; 0 like gold."""


class FactsBenchRecord(Frozen):
    """All models, and what they were measured by."""

    model: str
    revision: str | None
    settings: dict[str, Any]
    results: tuple[FactsResult, ...]
    versions: dict[str, str]
    device: str
    date: str
    seconds: Seconds
