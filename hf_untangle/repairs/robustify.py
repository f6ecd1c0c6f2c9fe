"""Make unlearning withstand relearning: shrink and perturb the weights, then distill what the unlearned model says into them.

What unlearning leaves in the weights without showing it comes back by a few steps of training. Distilled into weights that have
half forgotten everything, a model learns what the unlearned one says, and nothing that it keeps to itself: UNDO,
arXiv:2506.06278, whose relearning curves come near those of a model that never saw the data.
"""

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Unpack, cast

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import check_without_adapters, model_below
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.callbacks.mask import MaskCallback
from hf_untangle.configs.keywords import RobustifySettings
from hf_untangle.configs.robustify import FORWARDS, RobustifyConfig
from hf_untangle.data.batches import TokenBlocks, joined_blocks, token_blocks
from hf_untangle.data.corpora import Corpus, CorpusSource, corpus
from hf_untangle.data.documents import Part
from hf_untangle.data.held_out import held_out_blocks
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.data.two_corpora import two_corpora
from hf_untangle.data.understood import announce
from hf_untangle.distributed import place
from hf_untangle.evaluation.kl_to_original import TopLogits, metrics_and_divergence, reference_predictions
from hf_untangle.evaluation.self_written import with_own_text
from hf_untangle.masks.hold_removed import RemovedNeurons
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.progress import one_bar, phase, plan_work, predict
from hf_untangle.pruning.judging import judge
from hf_untangle.pruning.step import Pair
from hf_untangle.pruning.work import seconds_per_token
from hf_untangle.records.unlearning import Divergence, RobustifyRecord
from hf_untangle.repairs.distillation import Teacher
from hf_untangle.repairs.methods import REPAIRS
from hf_untangle.repairs.repair import check_removed, check_task
from hf_untangle.repairs.training import train_
from hf_untangle.reporting.formatting import amount


@checked_arguments
@all_or_nothing
def robustify(
    model: PreTrainedModel | ModelName,
    forget: CorpusSource,
    retain: CorpusSource = "general",
    *,
    mask: NeuronMask | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    config: RobustifyConfig | str = "default",
    progress: bool = True,
    **settings: Unpack[RobustifySettings],
) -> RobustifyRecord:
    """Distill an unlearned model into its own shrunk and perturbed weights, in place, so that relearning takes longer.

    The student is trained on the train part of the retain corpus and on text that the unlearned model writes itself, never on
    the forget corpus. Neurons that a mask removes stay at exactly zero. The model is written to in the very last moment: an
    error or an interruption before leaves it as it was.

    Args:
        model: A model that has unlearned, by whatever method. A name or path is loaded, and the record has the new `model`.
        forget: What it has unlearned: own text that is like it is left out, and it is measured before and after.
        retain: The corpus to distill on.
        mask: Which neurons stayed, where some were removed; None otherwise, and for a compacted model, whose tensors have none.
        tokenizer: The model's tokenizer; found by the model's name when None.
        config: Settings, or the name of a preset.
        progress: Whether to show progress bars.
        **settings: Fields of `RobustifyConfig` that override `config`, such as `strength` or `tokens`.

    Returns:
        The settings, the scores before and after, how far the student is from the unlearned model, and what it cost.

    Raises:
        MaskError: The mask is not this model's, or its neurons were not removed.
        ConfigError: A setting is unknown or out of range, or the model is no causal language model.
    """
    config = RobustifyConfig.resolve(config, **settings)
    given, model = model, opened(model)
    check_task(model, "Robustify distills")
    tokenizer = find_tokenizer(model, tokenizer)
    gone, kept = two_corpora(forget, retain, chat=config.chat)
    size: dict[str, Any] = {"tokens": config.evaluation_tokens, "block_size": config.block_size}
    forgotten, retained = (held_out_blocks(one, tokenizer, part="test", **size).first for one in (gone, kept))
    test = Pair(forgotten, retained)
    record = robustify_measured(model, mask, test, (gone, kept), config, tokenizer=tokenizer, progress=progress)
    if model is not given:
        record.keep(model)
    return record


@all_or_nothing
@one_bar("making robust")
def robustify_measured(
    model: PreTrainedModel,
    mask: NeuronMask | None,
    test: Pair,
    corpora: tuple[Corpus, Corpus],
    config: RobustifyConfig,
    *,
    tokenizer: PreTrainedTokenizerBase,
    progress: bool = True,
) -> RobustifyRecord:
    """Make a model robust, as `robustify` does, and measure it on blocks that are read already.

    Args:
        model: A model that has unlearned.
        mask: Which neurons stayed; None where none were removed, or they are out of the tensors.
        test: What to measure before and after.
        corpora: What was forgotten, and what to distill on.
        config: The settings.
        tokenizer: The model's tokenizer.
        progress: Whether to show progress bars.

    Returns:
        The record.

    Raises:
        MaskError: The mask is not this model's, or its neurons were not removed.
        ConfigError: The model is no causal language model.
    """
    check_task(model, "Robustify distills")
    check_without_adapters(model)
    groups = neuron_groups(model)
    if mask is not None:
        check_removed(model, mask, groups)
    training, most = config.training, config.distilled_tokens
    announce(f"at most {amount(most)} tokens, which cost as much as {amount(config.forward_tokens)} forward", progress=progress)
    blocks = text_to_distill(model, corpora, config, tokenizer, progress=progress)
    size = {"tokens": config.evaluation_tokens, "block_size": config.block_size}
    held_out = held_out_blocks(corpora[1], tokenizer, part="validation", **size).first
    judged = (test.forget.tokens + test.retain.tokens) // place()[1]
    plan_work({"training": most // place()[1], "forward": blocks.tokens // place()[1] + 2 * judged})
    if progress:
        predict(lambda: seconds_per_token(model, blocks))
    reference = reference_predictions(model, held_out, batch_size=config.batch_size)
    watch = _Watch(held_out, reference, config)
    held = () if mask is None else (partial(MaskCallback, mask=mask, groups=groups),)
    start = time.perf_counter()

    def train(student: nn.Module, compute: torch.dtype) -> None:
        shrink_and_perturb_(student, config.strength, config.noise, config.seed)
        if mask is not None:
            RemovedNeurons(student, mask, groups).zero_weights_()
        watch.compute = compute
        watch.look(cast(PreTrainedModel, student))
        if not watch.is_met:
            how = {"top": training.distill_top, "temperature": training.distill_temperature, "batch_size": config.batch_size}
            teacher = Teacher.of(model, blocks, progress=progress, **how)
            callbacks = (*held, lambda _: watch)
            train_(student, blocks, training, compute=compute, teacher=teacher, callbacks=callbacks, progress=progress)
        phase("after")

    def measure(one: PreTrainedModel) -> Any:
        return judge(one, test, batch_size=config.batch_size, progress=progress)

    phase("before")
    before = measure(model)
    phase("distillation")
    after, trained = REPAIRS["full"](model, training, train, measure)
    tokens = watch.curve[-1].tokens
    checked = len(watch.curve) * held_out.tokens
    return RobustifyRecord(
        settings=config.model_dump(),
        corpus=blocks.record(),
        original=None,
        tokens=tokens,
        parameters=trained,
        before=before,
        after=after,
        seconds=time.perf_counter() - start,
        divergences=tuple(watch.curve),
        forward_tokens=FORWARDS * tokens + (blocks.tokens if tokens else 0) + checked + config.own_tokens,
    )


def text_to_distill(
    model: PreTrainedModel,
    corpora: tuple[Corpus, Corpus],
    config: RobustifyConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    progress: bool = True,
) -> TokenBlocks:
    """Read the retain corpus, and let the unlearned model write text beside it.

    Args:
        model: The model that has unlearned.
        corpora: What was forgotten, and what to read.
        config: The settings.
        tokenizer: The model's tokenizer.
        progress: Whether to say what was read.

    Returns:
        Blocks of both, which take turns.
    """
    gone, kept = corpora
    size: dict[str, Any] = {"block_size": config.block_size, "excerpt": None}
    blocks = token_blocks(kept, tokenizer, tokens=config.text_tokens, **size)
    announce(f"{blocks.corpus.name}: {blocks.understood}", progress=progress)
    if not config.own_tokens:
        return blocks
    # A corpus needs some text in every part.
    needed: dict[Part, int] = {"train": config.own_tokens, "validation": 1, "test": 1}
    how: dict[str, Any] = {"unlike": gone, "seed": config.seed, "progress": progress}
    own = with_own_text(corpus("self"), model, tokenizer, tokens=needed, **how)
    return joined_blocks([blocks, token_blocks(own, tokenizer, tokens=config.own_tokens, **size)])


@dataclass(eq=False)
class _Watch(TrainerCallback):
    """Looks at how far a student is from its teacher, and ends its training once it is near enough."""

    held_out: TokenBlocks
    reference: TopLogits
    """What the teacher predicts of them."""
    config: RobustifyConfig
    curve: list[Divergence] = field(default_factory=list)
    compute: torch.dtype = torch.float32

    @property
    def is_met(self) -> bool:
        """Whether the student is as near as it has to be."""
        return self.curve[-1].nats <= self.config.tolerance

    def look(self, student: PreTrainedModel, step: int = 0) -> None:
        """Measure the student after some steps."""
        training = self.config.training
        tokens = step * training.passes * training.batch_size * training.block_size
        with torch.autocast(student.device.type, self.compute, enabled=self.compute != torch.float32):
            found = metrics_and_divergence(student, self.held_out, self.reference, batch_size=self.config.batch_size)
        self.curve.append(Divergence(tokens=tokens, nats=found[1], top1=found[0].top1))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look where it is time to, and after the last step."""
        every = max(1, state.max_steps // self.config.checks)
        if state.global_step % every == 0 or state.global_step == state.max_steps:
            self.look(cast(PreTrainedModel, model_below(kwargs["model"])), state.global_step)
            control.should_training_stop |= self.is_met


@torch.no_grad()
def shrink_and_perturb_(model: nn.Module, strength: float, noise: float, seed: int) -> None:
    """Write W <- (1 - a) W + a b N to every weight (arXiv:1910.08475), as UNDO does first (arXiv:2506.06278).

    N is drawn as Xavier initialization draws a matrix, from a normal distribution of variance 2 / (inputs + outputs); of
    vectors, such as biases and the scales of norms, it is zero.

    Args:
        model: The model, changed in place. Tied weights are changed once.
        strength: The share a, from 0 to 1.
        noise: The factor b.
        seed: For the draw, which is the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.mul_(1 - strength)
        if noise and parameter.ndim > 1:
            parameter.add_(_fresh(parameter, generator), alpha=strength * noise)


def _fresh(parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Freshly initialized weights of the shape of others; of a stack of experts every matrix by itself."""
    *_, outputs, inputs = parameter.shape
    drawn = torch.randn(parameter.shape, generator=generator) * (2 / (inputs + outputs)) ** 0.5
    return drawn.to(parameter)
