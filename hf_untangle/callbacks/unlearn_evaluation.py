"""See what a model still knows of the forget and the retain corpus while it is trained."""

import logging
from typing import Any, Unpack

from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_calls
from hf_untangle.callbacks.interval import PREFIX, check_every, is_due, log_numbers
from hf_untangle.callbacks.run import model_of, tokenizer_of
from hf_untangle.configs.keywords import UnlearnSettings
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.corpora import CorpusSource, Part
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.errors import StatisticsError
from hf_untangle.pruning.judging import judge
from hf_untangle.pruning.step import read_pair

logger = logging.getLogger("hf_untangle")


@checked_calls
class UnlearnEvaluationCallback(TrainerCallback):
    """Logs top-1 accuracy and loss on held-out text of both corpora, before training, every few steps, and at its end.

    So relearning is seen as it happens: `untangle/unlearn/forget_top1` rises. The same names with `retain` and `loss` go with
    it. All state of this callback is what it has logged, which every checkpoint contains.

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
        config: UnlearnConfig | str = "default",
        **settings: Unpack[UnlearnSettings],
    ) -> None:
        """Read the held-out text.

        Args:
            trainer: The trainer that this is added to; its `log` takes the numbers to where the run reports to.
            forget: The corpus whose capability is to be gone.
            retain: The corpus whose capability is to stay.
            every: Optimizer steps between two measurements.
            part: The part of both corpora to measure.
            tokenizer: The model's tokenizer; the trainer's, or found by the model's name, when None.
            config: Settings of the evaluation, or the name of a preset: `evaluation_tokens`, `block_size`, `batch_size` and
                `packed` count here.
            **settings: Fields of `UnlearnConfig` that override `config`.

        Raises:
            ConfigError: `every` is not positive, or a setting is unknown or out of range.
        """
        check_every(every)
        self.trainer, self.every = trainer, every
        self._config = UnlearnConfig.resolve(config, **settings)
        found = find_tokenizer(model_below(model_of(trainer)), tokenizer or tokenizer_of(trainer))
        self._held_out = read_pair(forget, retain, found, part, self._config)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure the model as it is, unless the run is resumed from a step that was measured."""
        name = f"{PREFIX}/unlearn/forget_top1"
        if not any(name in entry and entry["step"] == state.global_step for entry in state.log_history):
            self._measure(kwargs["model"], control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure the model every few steps, and after the last one."""
        if is_due(state, self.every) or state.global_step >= state.max_steps:
            self._measure(kwargs["model"], control)

    def _measure(self, model: Any, control: TrainerControl) -> None:
        """Log the scores."""
        try:
            # All processes measure, as the evaluation may be split among them.
            scores = judge(model_below(model), self._held_out, batch_size=self._config.batch_size, progress=False)
        except StatisticsError as error:
            logger.warning("Step %d: forget and retain are not measured. %s", self.trainer.state.global_step, error)
            return
        numbers = {"forget_top1": scores.forget.top1, "retain_top1": scores.retain.top1}
        log_numbers(
            self.trainer, control, "unlearn", numbers | {"forget_loss": scores.forget.loss, "retain_loss": scores.retain.loss}
        )
