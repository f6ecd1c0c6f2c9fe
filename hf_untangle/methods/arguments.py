"""The arguments of `UnlearnTrainer`: those of transformers' Trainer, and the method with its numbers."""

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class UnlearnArguments(TrainingArguments):
    """Arguments of an unlearning run by the Trainer of transformers; what is None is the method's own."""

    method: str = field(
        default="npo", metadata={"help": "A method that takes gradient steps, see `hf-untangle unlearn --list-methods`."}
    )
    retain_objective: str | None = field(default=None, metadata={"help": "nll, kl, hidden or none."})
    beta: float | None = field(default=None, metadata={"help": "Of npo, simnpo, dpo, undial, wga and satimp."})
    delta: float | None = field(default=None, metadata={"help": "Margin of simnpo, in nats per token."})
    sequence_sum: bool = field(default=False, metadata={"help": "Sum log-probabilities over a row (npo, dpo)."})
    gamma: float | None = field(default=None, metadata={"help": "Weight of the forget objective."})
    alpha: float | None = field(default=None, metadata={"help": "Weight of the retain objective."})
    layer: int | None = field(default=None, metadata={"help": "Layer whose hidden states are read."})
    alternatives: list[str] | None = field(default=None, metadata={"help": "Answers that dpo prefers; refusals when left out."})
    max_length: int = field(default=1024, metadata={"help": "Most tokens of a row; longer rows are cut."})
    max_rows: int | None = field(default=None, metadata={"help": "Most rows of each corpus; all of them when left out."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Batches hold row numbers, which the model's signature does not name."}
    )
