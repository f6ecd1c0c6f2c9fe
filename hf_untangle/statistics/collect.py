"""Collect activation statistics: one pass of the model over a corpus, without its head."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.forward import in_step, run_body
from hf_untangle.architecture.inference_mode import evaluation_mode, without_gradients
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.reads_tokens import check_reads_tokens_alone, positions_suffice
from hf_untangle.architecture.sharding import is_sharded
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.batch_size import Batches, BatchSize, limited
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.blocks import Blocks
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.data.understood import announce
from hf_untangle.distributed import together
from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.models import revision_of
from hf_untangle.runtime import release_unused_memory
from hf_untangle.statistics.accumulators import GroupSums, Watch, observed
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.checkpoint import Checkpoint
from hf_untangle.statistics.moments import MomentAccumulator, Moments

logger = logging.getLogger("hf_untangle")

TOKENS = 16_384
"""How many tokens are read of a corpus when nothing is said."""


@checked_arguments
@all_or_nothing
def collect(  # noqa: PLR0913 (one parameter an option)
    model: PreTrainedModel | ModelName,
    blocks: Blocks | CorpusSource,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    groups: Sequence[NeuronGroup] | None = None,
    batch_size: BatchSize = 8,
    roots: bool = False,
    max_tokens: int | None = None,
    max_seconds: int | float | None = None,
    checkpoint_every: int | None = None,
    progress: bool = True,
) -> ActivationStatistics:
    """Sum up what every neuron does on a corpus.

    The base model runs once over the blocks; the language-model head is not needed and not run. Sums stay on the device of
    their neurons, and no activation is kept or copied to the host. Several processes each run their share of the blocks, and
    all of them get the statistics of all.

    Args:
        model: The model, which is left as it was. A name or path is loaded.
        blocks: The tokens; or what `corpus` takes, whose train part is read: 16,384 tokens of it, or `max_tokens`.
        tokenizer: The model's tokenizer, for a corpus; found by the model's name when None.
        groups: Which neuron groups to watch; all of them when None.
        batch_size: Blocks in one forward pass. "auto" begins with 4,096 positions and halves when memory runs out: the batch
            that failed is started again, and nothing of it is counted twice.
        roots: Whether to sum sqrt|z| too, which the importance `sqrt` needs.
        max_tokens: Reads the first blocks only, up to so many tokens.
        max_seconds: Begins no batch after so many seconds, each process by its own clock, and at least one batch in each. The
            statistics are right for, and their record names, the blocks that were read until then.
        checkpoint_every: Writes the sums to the cache folder every so many blocks, so that the same call continues from there
            after it was killed, and ends with the same bits; never when None.
        progress: Whether to show a progress bar.

    Returns:
        The statistics, on the CPU.

    Raises:
        StatisticsError: A neuron group saw no token, or an activation was infinite or NaN.
        ArchitectureError: The model is an encoder with a decoder.
        CorpusError: The blocks are longer than the positions of the model.
        ConfigError: A limit is not positive, or cannot be kept by processes that share a model; or not even one block fits
            into memory.
    """
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ConfigError(
            f"`checkpoint_every` must be a positive number of blocks, got {checkpoint_every}. Leave it out to write none."
        )
    model = cast(PreTrainedModel, model_below(opened(model)))
    check_reads_tokens_alone(model)
    groups = neuron_groups(model) if groups is None else groups
    if not isinstance(blocks, Blocks):
        blocks = token_blocks(blocks, find_tokenizer(model, tokenizer), tokens=max_tokens or TOKENS)
        announce(f"{blocks.corpus.name}: {blocks.understood}", progress=progress)
    blocks = limited(blocks, max_tokens)
    sums = GroupSums(groups, roots=roots)
    mine = blocks.mine()
    batches = Batches(mine, batch_size, max_seconds=max_seconds)
    if checkpoint_every and is_sharded(model):
        raise ConfigError(
            "Processes that share a model must run as many passes each, but after a stop they may have come differently far. "
            "Leave `checkpoint_every` out."
        )
    saved = Checkpoint(model, mine, batches, sums, every=checkpoint_every) if checkpoint_every else None

    def of_my_blocks() -> tuple[dict[str, Moments], int]:
        passes = forward_passes(model, groups, sums.add, batches.passes())
        with mine.bar("statistics of", progress=progress, kind="statistics") as bar, passes as forward:
            for batch in batches.run(sums.whole(forward)):
                bar.update(batch.tokens)
                if saved is not None and saved.after_batch():
                    bar.resume_at(mine.rows(slice(0, batches.done)).tokens)
        release_unused_memory()
        return sums.results(mine.rows(slice(0, batches.done)).tokens), batches.done

    parts = together(of_my_blocks)
    read = read_by_all(blocks, [done for _, done in parts])
    statistics = finished(model, read, groups, merged([moments for moments, _ in parts]))
    if saved is not None:
        saved.close()
    return statistics


def read_by_all(blocks: Blocks, done: Sequence[int]) -> Blocks:
    """Find the blocks that were read, where a time limit may have come before the last.

    Args:
        blocks: The blocks of all processes together.
        done: How many of its own blocks each process has read, of which n processes have every n-th.

    Returns:
        Those blocks, in order.
    """
    if sum(done) == len(blocks.counted):
        return blocks
    rows = [first + len(done) * number for first, own in enumerate(done) for number in range(own)]
    return blocks.rows(torch.tensor(sorted(rows)))


def results(sums: dict[str, MomentAccumulator], tokens: int) -> dict[str, Moments]:
    """Read all sums.

    Args:
        sums: The sums of each group that ran.
        tokens: How many tokens there were, of which experts see only a part.

    Returns:
        The moments of each group, on the CPU.
    """
    return {name: accumulator.result(tokens) for name, accumulator in sums.items()}


def merged(parts: Sequence[dict[str, Moments]]) -> dict[str, Moments]:
    """Add up what several processes have seen.

    Args:
        parts: The moments that each of them has; a process without blocks has none.

    Returns:
        The moments of all tokens.
    """
    whole: dict[str, Moments] = {}
    for part in parts:
        for name, moments in part.items():
            whole[name] = whole[name] + moments if name in whole else moments
    return whole


def run_over(
    model: PreTrainedModel,
    blocks: Blocks,
    groups: Sequence[NeuronGroup],
    add: Callable[[NeuronGroup, Tensor, slice], None],
    *,
    batch_size: int,
    progress: bool,
    watch: Watch = observed,
) -> None:
    """Run the base model once over some blocks, and show the activations at every token that counts.

    Args:
        model: The model, which is left as it was.
        blocks: The tokens.
        groups: Which neuron groups to watch.
        add: Called with a group, activations of shape [token, neuron] on their own device, and which neurons of the group
            they are; once per expert, if there are any.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.
        watch: What to watch of the groups, one row per position; their activations unless told otherwise.
    """
    passes = forward_passes(model, groups, add, blocks.batches(batch_size), watch=watch)
    with blocks.bar("statistics of", progress=progress, kind="statistics") as bar, passes as forward:
        for batch in blocks.batches(batch_size):
            forward(batch)
            bar.update(batch.tokens)


@contextmanager
def forward_passes(
    model: PreTrainedModel,
    groups: Sequence[NeuronGroup],
    add: Callable[[NeuronGroup, Tensor, slice], None],
    passes: Iterable[object],
    *,
    watch: Watch = observed,
) -> Iterator[Callable[[Blocks], None]]:
    """Run the base model batch by batch inside the `with` block, and show the activations at every token that counts.

    Args:
        model: The model, which is left as it was.
        groups: Which neuron groups to watch.
        add: As in `run_over`.
        passes: As many things as batches will be run; looked at only where processes share the model and must run in step.
        watch: As in `run_over`.

    Yields:
        A function that runs a batch.
    """
    counted: list[Tensor | None] = [None]

    def show(group: NeuronGroup, reading: Reading) -> None:
        add(group, rows_that_count(reading, counted[0]), reading.neurons)

    device = input_device(model)

    def forward(batch: Blocks) -> None:
        counted[0] = None if bool(batch.counted.all()) else batch.counted.flatten()
        # Of an image there is one count, whatever its patches.
        with positions_suffice(model, batch.counted.shape[1] if batch.counted.ndim == 2 else 1):
            run_body(model, batch.inputs(device))

    with (
        evaluation_mode(model),
        without_gradients(model),
        in_step(model, passes, run_body),
        watch(model, groups, show),
    ):
        yield forward


def rows_that_count(reading: Reading, counted: Bool[Tensor, " token"] | None) -> Float[Tensor, "row neuron"]:
    """Pick the activations of the tokens that count.

    Args:
        reading: The activations of a batch.
        counted: Which tokens of the batch count; None when all do.

    Returns:
        One row per token.

    Raises:
        StatisticsError: Some tokens do not count, and which ones an expert saw is not known.
    """
    rows = reading.values.flatten(0, -2)
    if counted is None:
        return rows
    if reading.tokens is None and len(rows) != len(counted):
        raise StatisticsError(
            "Experts that are a module each do not tell which tokens they see, so all tokens must count where they are "
            f"watched, but of {len(counted)} only {int(counted.sum())} do. Use a longer corpus, which fills its blocks, or "
            "leave the experts out with `groups=`."
        )
    here = counted.to(rows.device)
    chosen = here if reading.tokens is None else here[reading.tokens]
    return rows.index_select(0, chosen.nonzero().flatten())


def finished(
    model: PreTrainedModel, blocks: Blocks, groups: Sequence[NeuronGroup], sums: dict[str, Moments]
) -> ActivationStatistics:
    """Make statistics of the sums of one pass, with a record of where they come from.

    Args:
        model: The model that ran.
        blocks: The tokens that it ran over.
        groups: The neuron groups that were watched.
        sums: The sums of each group.

    Returns:
        The statistics, on the CPU.

    Raises:
        StatisticsError: A neuron group saw no token, or an activation was infinite or NaN.
    """
    unseen = {group.name: next(iter(sums.values())).of_no_token(group.size) for group in groups if group.experts == 1 and sums}
    return ActivationStatistics(
        moments={group.name: _checked(group, (unseen | sums).get(group.name)) for group in groups},
        model=str(model.name_or_path),
        revision=revision_of(model),
        dtype=str(model.dtype).removeprefix("torch."),
        corpora=(blocks.record(),),
    )


def _checked(group: NeuronGroup, moments: Moments | None) -> Moments:
    """One group's moments, unless they mean nothing."""
    if moments is None or (moments.count if moments.routed is None or group.experts == 1 else moments.routed.sum()) == 0:
        raise StatisticsError(
            f"Every neuron group must see tokens, but `{group.name}` saw none: the model did not run it on this corpus. "
            "Leave it out with `groups=`."
        )
    if moments.routed is not None and not moments.routed.all():
        idle = (moments.routed == 0).nonzero().flatten().tolist()
        logger.warning("Of the %d experts of `%s`, these saw no token: %s.", group.experts, group.name, idle)
    if not moments.is_finite():
        raise StatisticsError(
            f"Activations must be finite, but those of `{group.name}` hold NaN or infinity. Load the model in float32 or "
            "bfloat16 (`dtype=`), and check that its weights are whole."
        )
    return moments
