"""How well a model predicts the next token of a text, or one that is hidden in it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.forward import in_step, run_body
from hf_untangle.architecture.inference_mode import evaluation_mode, forward_replaced, uncached, without_gradients
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.reads_tokens import check_reads_tokens_alone, positions_suffice
from hf_untangle.architecture.sharding import is_sharded
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.batch_size import Batches, BatchSize, limited
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.blocks import Blocks
from hf_untangle.distributed import together
from hf_untangle.errors import ArchitectureError, StatisticsError
from hf_untangle.evaluation.block_sums import by_block, scored

CHUNK = 2**25
"""Logits that are held in float32 at once: 128 MiB, whatever the batch and the vocabulary."""


@checked_calls
@dataclass(frozen=True)
class NextTokenMetrics:
    """Prediction metrics for next tokens, masked tokens or image classes; `tokens` counts images for classifiers."""

    tokens: int
    """How many tokens were predicted."""
    top1: float
    """Share of tokens that are the most likely prediction, from 0 to 1."""
    top10: float
    """Share of tokens among the ten most likely predictions, from 0 to 1."""
    loss: float
    """Mean cross-entropy of a token, in nats."""

    @property
    def perplexity(self) -> float:
        """exp(loss), infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def record(self) -> dict[str, int | float]:
        """Everything, perplexity included, for a report."""
        return asdict(self) | {"perplexity": self.perplexity}


@checked_arguments
def relative_drop(before: float, after: float) -> float:
    """How much of an accuracy is gone: 1 - after / before, so 0 when nothing is and 1 when all is.

    Args:
        before: Accuracy before, above 0.
        after: Accuracy after.

    Returns:
        The drop, at most 1, and negative when the accuracy rose.
    """
    return 1 - after / before


@checked_arguments
@all_or_nothing
def next_token_metrics(
    model: PreTrainedModel | ModelName,
    blocks: TokenBlocks,
    *,
    batch_size: BatchSize = 8,
    max_tokens: int | None = None,
    max_seconds: int | float | None = None,
    progress: bool = True,
) -> NextTokenMetrics:
    """Measure accuracy and loss on blocks of tokens: of the next token, or of the hidden ones of `MaskedTokenBlocks`.

    The base model runs on whole batches; the head runs on a few tokens at a time, so that the logits of a batch are never
    in memory together. Several processes each run their share of the blocks, and all of them get the metrics of all.

    Args:
        model: A causal language model, or a masked one. A name or path is loaded.
        blocks: The tokens.
        batch_size: Blocks in one forward pass of the base model; "auto" halves them when memory runs out.
        max_tokens: Reads the first blocks only, up to so many tokens.
        max_seconds: Begins no batch after so many seconds, each process by its own clock. The metrics are those of the blocks
            until then, so that only metrics without it, or of as many tokens, compare.
        progress: Whether to show a progress bar.

    Returns:
        The metrics.

    Raises:
        StatisticsError: No block has a second token, or the loss is NaN.
        ArchitectureError: The model is an encoder with a decoder.
        CorpusError: The blocks are longer than the positions of the model.
    """
    how = {"batch_size": batch_size, "max_tokens": max_tokens, "max_seconds": max_seconds, "progress": progress}
    parts = next_token_sums(cast(PreTrainedModel, model_below(opened(model))), blocks, **how)
    return metrics_of(torch.cat(parts).sum(0), blocks.corpus.name)


def next_token_sums(
    model: PreTrainedModel,
    blocks: TokenBlocks,
    *,
    batch_size: BatchSize,
    progress: bool,
    max_tokens: int | None = None,
    max_seconds: int | float | None = None,
) -> list[Float[Tensor, "_ 4"]]:
    """Measure accuracy and loss on blocks of tokens, block by block.

    Args:
        model: A causal language model, or a masked one.
        blocks: The tokens.
        batch_size: As in `next_token_metrics`.
        progress: As there.
        max_tokens: As there.
        max_seconds: As there.

    Returns:
        The sums per block of every process, each of which reads every n-th of n blocks.
    """
    mine = limited(blocks, max_tokens).mine()
    batches = Batches(mine, batch_size, max_seconds=max_seconds)
    device = input_device(model)

    def measure(batch: Blocks) -> Tensor:
        where, tokens = batch.queries()
        found = logits_and_labels(model, batch.inputs(device), where.to(device), tokens.to(device))
        return by_block(where, [scored(logits, labels).cpu() for logits, labels in found])

    return together(lambda: sums_over(model, mine, batches, measure, progress=progress))


def metrics_of(sums: Float[Tensor, " metric"], name: str) -> NextTokenMetrics:
    """Make metrics of sums.

    Args:
        sums: Of all predictions, as `sums_of` gives them.
        name: Of the corpus, for the message.

    Returns:
        The metrics.

    Raises:
        StatisticsError: Nothing was predicted, or the loss is NaN.
    """
    hits1, hits10, loss, tokens = sums.tolist()
    if not tokens:
        raise StatisticsError(
            f"Predicting a next token needs a block of at least two tokens, but {name} has none. Pass longer "
            "documents or a larger block_size."
        )
    if math.isnan(loss):
        raise StatisticsError(
            f"The loss on {name} must be a number, but it is NaN: the model's logits are not finite. Load it in "
            "float32 or bfloat16 (`dtype=`), and check that its weights are whole."
        )
    return NextTokenMetrics(int(tokens), hits1 / tokens, hits10 / tokens, loss / tokens)


def sums_over(
    model: PreTrainedModel,
    blocks: Blocks,
    batches: Batches,
    measure: Callable[[Blocks], Float[Tensor, "block metric"]],
    *,
    progress: bool,
) -> Float[Tensor, "block metric"]:
    """Gather what a model does on every batch, block by block.

    Args:
        model: The model.
        blocks: What the batches are of.
        batches: The walk over them.
        measure: Runs the model on a batch, and gives a row per block: the sums of `scored` over its predictions.
        progress: Whether to show a progress bar.

    Returns:
        The rows of all blocks, in order, on the CPU.
    """
    found = [torch.zeros(0, 4, dtype=torch.float64)]

    def add(batch: Blocks) -> None:
        # Added in one step, as a batch that fails is started again.
        found.append(measure(batch).cpu())

    with (
        blocks.bar("evaluation on", progress=progress) as bar,
        evaluation_mode(model),
        without_gradients(model),
        in_step(model, batches.passes(), run_body),
    ):
        for batch in batches.run(add):
            bar.update(batch.tokens)
    return torch.cat(found)


def logits_and_labels(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    where: Bool[Tensor, "block position"],
    labels: Int[Tensor, " prediction"],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run a model, but never hold the logits of a whole batch.

    Args:
        model: A causal language model, or a masked one.
        inputs: What to call it with.
        where: The positions that predict something.
        labels: What each of them should predict, block by block.

    Yields:
        The logits of a few tokens at a time, with the token that each should be.

    Raises:
        ArchitectureError: The model is an encoder with a decoder.
        CorpusError: The blocks are longer than the positions of the model.
    """
    check_reads_tokens_alone(model)
    with positions_suffice(model, where.shape[1]):
        yield from _logits_and_labels(model, inputs, where, labels)


def _logits_and_labels(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    where: Bool[Tensor, "block position"],
    labels: Int[Tensor, " prediction"],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run a model that can be measured."""
    size = max(1, CHUNK // model.config.get_text_config().vocab_size)
    if is_sharded(model):
        # Processes that share a model run in step, one pass a batch, so that its head cannot run by itself.
        logits = model(**inputs, **uncached(model)).logits[where]
        yield from zip(logits.split(size), labels.split(size), strict=True)
        return
    if not head_runs_alone(model, inputs):
        yield from _whole_logits(model, inputs, where, labels)
        return
    states = model.base_model(**inputs, **uncached(model))
    yield from head_logits(model, states, states.last_hidden_state[where], labels)


TRIED = 6
"""Tokens that the head of a model is tried on."""
_PROVEN: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether the head of a model gives its logits when it is run alone."""


def head_runs_alone(model: PreTrainedModel, inputs: dict[str, Tensor]) -> bool:
    """Tell whether a model's head, run alone over hidden states, gives the logits of the model; tried once per model.

    Args:
        model: The model.
        inputs: A batch to try it on, of which the first few tokens are used.

    Returns:
        False where the head reads more than the hidden states, or where they cannot be handed to it.
    """
    if model not in _PROVEN:
        few = {"input_ids": inputs["input_ids"][:1, :TRIED]}
        whole = model(**few, **uncached(model)).logits[0]
        _PROVEN[model] = _same_alone(model, few, whole)
    return _PROVEN[model]


def _same_alone(model: PreTrainedModel, inputs: dict[str, Tensor], whole: Float[Tensor, "position vocabulary"]) -> bool:
    """Compare the logits of a head that runs alone with those of the whole model."""
    try:
        states = model.base_model(**inputs, **uncached(model))
        # Not all of them, as some heads count positions.
        hidden, tokens = states.last_hidden_state[0][::2], inputs["input_ids"][0][::2]
        alone = torch.cat([logits for logits, _ in head_logits(model, states, hidden, tokens)])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # Whatever a model of another build raises when it is called in parts.
        return False
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    expected = whole[::2].float()
    return alone.shape == expected.shape and torch.allclose(alone.float(), expected, rtol=tolerance, atol=tolerance)


def _whole_logits(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    where: Bool[Tensor, "block position"],
    labels: Int[Tensor, " prediction"],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run the whole model block by block, so that the logits of one block are in memory together."""
    for row, tokens in enumerate(labels.split(where.sum(1).tolist())):
        logits = model(**{name: value[row : row + 1] for name, value in inputs.items()}, **uncached(model)).logits[0]
        if len(logits) != where.shape[1]:
            raise ArchitectureError(
                f"A model must give the logits of every position to be measured, but {type(model).__name__} gives those of "
                f"{len(logits)} for {where.shape[1]} tokens."
            )
        yield logits[where[row]], tokens


def head_logits(
    model: PreTrainedModel, states: Any, hidden: Float[Tensor, "prediction width"], labels: Int[Tensor, " prediction"]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run a model's head alone over hidden states, a few of them at a time.

    Args:
        model: The model.
        states: What its body gave for some inputs; its `last_hidden_state` is written to.
        hidden: The hidden states to read.
        labels: What each should predict.

    Yields:
        Logits of a few of them, and their labels.
    """
    size = max(1, CHUNK // model.config.get_text_config().vocab_size)
    for some, tokens in zip(hidden.split(size), labels.split(size), strict=True):
        states.last_hidden_state = some[None]
        with _replayed(model, states):
            logits = model(input_ids=tokens[None], **uncached(model)).logits[0]
        yield logits, tokens


@contextmanager
def _replayed(model: PreTrainedModel, states: Any) -> Iterator[None]:
    """Let the model's body answer with known hidden states, so that a call runs the head alone, whatever the head does."""
    # Not the base model, which OPT's head passes by: it calls the decoder inside.
    backbone = model.get_decoder() if model.can_generate() else model.base_model
    with forward_replaced(backbone, lambda *_, **__: states):
        yield
