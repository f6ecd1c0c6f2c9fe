"""What a sweep measures: a function of the caller's, or next-token prediction on a corpus."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.inference_mode import uncached
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_calls
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import CorpusSource, corpus
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.display import fields_repr
from hf_untangle.errors import ArchitectureError, StatisticsError
from hf_untangle.evaluation.next_token import next_token_metrics

Evaluate = Callable[[nn.Module], float]
"""From a model to an accuracy from 0 to 1, or to a mean loss, as the tolerance wants."""

VALIDATION_TOKENS = 6_144
TRAIN_TOKENS = 4_096
BLOCK_SIZE = 256
CALIBRATION_BLOCKS = 4
"""Blocks in a pass that activations are taken from, whose logits are all held at once."""


@checked_calls
@dataclass(frozen=True)
class Measure:
    """How to judge a model, and on how much."""

    evaluate: Evaluate
    calibrate: Callable[[nn.Module], object]
    """Runs the model on data that the evaluation does not use, for scores that need activations."""
    examples: int | None
    """How many examples or tokens an accuracy is the mean over; None when nobody knows."""
    __repr__ = fields_repr


def next_token_measure(evaluation: TokenBlocks, calibration: TokenBlocks, metric: str) -> Measure:
    """Judge a causal language model by the next tokens of some blocks.

    Args:
        evaluation: What it is judged on.
        calibration: What activations are taken from.
        metric: `accuracy` (top-1) or `loss` (nats per token).

    Returns:
        The measure. A pruned model whose loss is NaN is judged as NaN.
    """

    def evaluate(model: nn.Module) -> float:
        try:
            metrics = next_token_metrics(_language_model(model), evaluation, progress=False)
        except StatisticsError:
            return math.nan
        return metrics.top1 if metric == "accuracy" else metrics.loss

    @torch.no_grad()
    def calibrate(model: nn.Module) -> None:
        language_model = _language_model(model)
        # Whole passes and nothing else: what watches them counts every token once.
        for rows in torch.arange(len(calibration.counted)).split(CALIBRATION_BLOCKS):
            batch = calibration.rows(slice(int(rows[0]), int(rows[-1]) + 1))
            language_model(**batch.inputs(input_device(language_model)), **uncached(language_model))

    return Measure(evaluate, calibrate, int((evaluation.attention_mask[:, :-1] & evaluation.attention_mask[:, 1:]).sum()))


def corpus_measure(model: nn.Module, source: CorpusSource, tokenizer: PreTrainedTokenizerBase | None, metric: str) -> Measure:
    """Judge a causal language model by the validation part of a corpus; activations come from its train part.

    Args:
        model: The model, for its tokenizer.
        source: The corpus.
        tokenizer: The tokenizer; found by the model's name when None.
        metric: `accuracy` or `loss`.

    Returns:
        The measure, on 6,144 tokens.

    Raises:
        ArchitectureError: The model is no transformers model.
    """
    found = find_tokenizer(_language_model(model), tokenizer)
    opened = corpus(source)
    evaluation = token_blocks(opened, found, tokens=VALIDATION_TOKENS, part="validation", block_size=BLOCK_SIZE)
    calibration = token_blocks(opened, found, tokens=TRAIN_TOKENS, part="train", block_size=BLOCK_SIZE)
    return next_token_measure(evaluation, calibration, metric)


def as_measure(
    model: nn.Module, evaluate: Evaluate | Measure | CorpusSource, tokenizer: PreTrainedTokenizerBase | None, metric: str
) -> Measure:
    """Make a measure of whatever judges a model.

    Args:
        model: The model, for its tokenizer.
        evaluate: A function of the model, a measure, or a corpus.
        tokenizer: For a corpus; found by the model's name when None.
        metric: What a corpus is judged by: `accuracy` or `loss`.

    Returns:
        The measure.

    Raises:
        ArchitectureError: It is a corpus, and the model is no transformers model.
    """
    if isinstance(evaluate, Measure):
        return evaluate
    if callable(evaluate):
        return Measure(evaluate, calibrate=evaluate, examples=None)
    return corpus_measure(model, evaluate, tokenizer, metric)


def _language_model(model: nn.Module) -> PreTrainedModel:
    """The model as one of transformers, without adapters that stand around it."""
    below = model_below(model) if hasattr(model, "get_base_model") else model
    if not isinstance(below, PreTrainedModel):
        raise ArchitectureError(
            f"A corpus can judge a causal language model from transformers, got a {type(model).__name__}. Pass a function "
            "of the model instead of the corpus."
        )
    return below
