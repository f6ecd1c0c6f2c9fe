"""See what a model still knows of the forget and the retain corpus while it is trained."""

from typing import Any

from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.wrappers import model_below
from hf_untangle.callbacks.due import own_log_stays_due
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.corpora import CorpusSource, Part
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.errors import ConfigError
from hf_untangle.pruning.iterative import judge
from hf_untangle.pruning.scoring import read_pair


class UnlearnEvaluationCallback(TrainerCallback):
    """Logs top-1 accuracy and loss on held-out text of both corpora, before training, every few steps, and at its end.

    So relearning is seen as it happens: `eval_forget_top1` rises. The same keys with `retain` and `loss` go with it.

        trainer = Trainer(model, ...)
        trainer.add_callback(UnlearnEvaluationCallback(trainer, forget="code", every=20))
    """

    def __init__(
        self,
        trainer: Trainer,
        forget: CorpusSource,
        retain: CorpusSource = "general",
        *,
        every: int = 50,
        part: Part = "validation",
        tokenizer: PreTrainedTokenizerBase | None = None,
        **settings: object,
    ) -> None:
        """Read the held-out text.

        Args:
            trainer: The trainer that this is added to; its `log` takes the numbers to where the run reports to.
            forget: The corpus whose capability is to be gone.
            retain: The corpus whose capability is to stay.
            every: How many optimizer steps apart the measurements are.
            part: The part of both corpora to measure.
            tokenizer: The model's tokenizer; the trainer's, or found by the model's name, when None.
            **settings: `evaluation_tokens`, `block_size`, `batch_size` and `packed`, as in `UnlearnConfig`.

        Raises:
            ConfigError: `every` is not positive, or a setting is unknown or out of range.
        """
        if every < 1:
            raise ConfigError(f"The model must be measured every so many steps, at least 1, got every={every}.")
        self._trainer = trainer
        self._every = every
        self._config = UnlearnConfig().with_settings(**settings)
        given = tokenizer or (
            trainer.processing_class if isinstance(trainer.processing_class, PreTrainedTokenizerBase) else None
        )
        found = find_tokenizer(model_below(trainer.model), given)  # type: ignore[arg-type]
        self._held_out = read_pair(forget, retain, found, part, self._config)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure the model as it is, unless a run that is resumed has done so."""
        if not any("eval_forget_top1" in entry and entry["step"] == state.global_step for entry in state.log_history):
            self._measure(kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure the model every few steps, and after the last one."""
        if state.global_step % self._every == 0 or state.global_step >= state.max_steps:
            with own_log_stays_due(control):
                self._measure(kwargs["model"])

    def _measure(self, model: Any) -> None:
        """Log the scores. All processes measure, as the evaluation may be split among them."""
        scores = judge(model_below(model), self._held_out, batch_size=self._config.batch_size, progress=False)
        metrics = {"forget": scores.forget, "retain": scores.retain}
        top1 = {f"eval_{use}_top1": each.top1 for use, each in metrics.items()}
        self._trainer.log(top1 | {f"eval_{use}_loss": each.loss for use, each in metrics.items()})
