"""Collect activation statistics: one pass of the model over a corpus, without its head."""

import logging
from collections.abc import Callable, Sequence

from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.expert_passes import Reading
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.modes import evaluation_mode, without_gradients
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.passes import in_step, run_body
from hf_untangle.data.blocks import Blocks
from hf_untangle.distributed import together
from hf_untangle.errors import StatisticsError
from hf_untangle.statistics.activations import ActivationStatistics
from hf_untangle.statistics.hooks import Watch, observed
from hf_untangle.statistics.moments import MomentAccumulator, Moments

logger = logging.getLogger("hf_untangle")


def collect(
    model: PreTrainedModel,
    blocks: Blocks,
    *,
    groups: Sequence[NeuronGroup] | None = None,
    batch_size: int = 8,
    roots: bool = False,
    progress: bool = True,
) -> ActivationStatistics:
    """Sum up what every neuron does on a corpus.

    The base model runs once over the blocks; the language-model head is not needed and not run. Sums stay on the device of
    their neurons, and no activation is kept or copied to the host. Several processes each run their share of the blocks, and
    all of them get the statistics of all.

    Args:
        model: The model, which is left as it was.
        blocks: The tokens.
        groups: Which neuron groups to watch; all of them when None.
        batch_size: Blocks in one forward pass.
        roots: Whether to sum sqrt|z| too, which the importance `sqrt` needs.
        progress: Whether to show a progress bar.

    Returns:
        The statistics, on the CPU.

    Raises:
        StatisticsError: A neuron group saw no token, or an activation was infinite or NaN.
    """
    groups = neuron_groups(model) if groups is None else groups
    sums: dict[str, MomentAccumulator] = {}

    def add(group: NeuronGroup, z: Tensor, neurons: slice) -> None:
        if group.name not in sums:
            sums[group.name] = MomentAccumulator(group.size, z.device, roots=roots, experts=group.experts)
        sums[group.name].update(z, neurons)

    def of_my_blocks() -> dict[str, Moments]:
        mine = blocks.mine()
        run_over(model, mine, groups, add, batch_size=batch_size, progress=progress)
        return results(sums, mine.tokens)

    return finished(model, blocks, groups, merged(together(of_my_blocks)))


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
            they are; once an expert, if there are any.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.
        watch: What to watch of the groups, one row a position; their activations unless told otherwise.
    """
    counted: list[Tensor | None] = [None]

    def show(group: NeuronGroup, reading: Reading) -> None:
        add(group, rows_that_count(reading, counted[0]), reading.neurons)

    device = input_device(model)
    with (
        blocks.bar("statistics of", progress=progress) as bar,
        evaluation_mode(model),
        without_gradients(model),
        in_step(model, blocks.batches(batch_size), run_body),
        watch(model, groups, show),
    ):
        for batch in blocks.batches(batch_size):
            counted[0] = None if bool(batch.counted.all()) else batch.counted.flatten()
            run_body(model, batch.inputs(device))
            bar.update(batch.tokens)


def rows_that_count(reading: Reading, counted: Bool[Tensor, " token"] | None) -> Float[Tensor, "row neuron"]:
    """Pick the activations of the tokens that count.

    Args:
        reading: The activations of a batch.
        counted: Which tokens of the batch count; None when all do.

    Returns:
        One row a token.

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
        revision=getattr(model.config, "_commit_hash", None),
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
