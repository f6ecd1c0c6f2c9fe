"""Language models without their neurons of the lowest, of the highest, or of any entropy, on texts near and far."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import KINDS, NeuronGroup
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.entropy.neuron_record import NeuronCell, NeuronEntropyConfig, NeuronOrder, NeuronRecord
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.importance.entropy import entropy
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import remove_top
from hf_untangle.progress import track
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.moments import Moments


@checked_arguments
def measure_neurons(
    model: PreTrainedModel | ModelName,
    prose: TokenBlocks,
    tests: Mapping[str, TokenBlocks],
    settings: NeuronEntropyConfig | None = None,
    *,
    progress: bool = True,
) -> NeuronRecord:
    """Mask neurons of the lowest and highest entropy and at random, and measure next-token accuracy on every text.

    Entropy is measured on one part of the prose after another, so that results show how far they depend on it.

    Args:
        model: A causal language model, which is left as it was. A name or path is loaded.
        prose: Tokens to measure entropy on, in as many parts as there are seeds.
        tests: Held-out tokens by name; the first are in distribution.
        settings: What to do; the default settings when None.
        progress: Whether to show a progress bar over masks.

    Returns:
        The record.

    Raises:
        ConfigError: A share masks no neuron, or the prose has fewer blocks than there are seeds.
    """
    model = opened(model)
    settings = settings or NeuronEntropyConfig()
    groups = neuron_groups(model)
    check_shares(groups, settings)
    before = {name: next_token_metrics(model, blocks, progress=False) for name, blocks in tests.items()}
    cells: list[NeuronCell] = []
    rounds = settings.seeds * len(settings.orders) * len(settings.shares)
    with track("masks by entropy", rounds, unit="mask", progress=progress) as bar:
        for seed, part in enumerate(_parts(prose, settings.seeds)):
            statistics = collect(model, part, groups=groups, batch_size=settings.batch_size, progress=False)
            for order, share, mask in _masks(statistics, groups, settings, seed):
                with masked(model, mask, constants=mean_ablation(statistics) if settings.ablation == "mean" else None):
                    for name, blocks in tests.items():
                        after = next_token_metrics(model, blocks, batch_size=settings.batch_size, progress=False)
                        cell = {"seed": seed, "set": name, "share": share, "masked": mask.removed(), "order": order}
                        cells.append(NeuronCell(**cell, before=before[name], after=after))
                bar.update()
    return NeuronRecord(settings=settings, model=str(model.name_or_path), sets=tuple(tests), cells=tuple(cells))


def entropy_mask(
    mask: NeuronMask,
    statistics: Mapping[str, Moments],
    groups: tuple[NeuronGroup, ...],
    share: float,
    order: NeuronOrder = "bottom",
    *,
    settings: NeuronEntropyConfig | None = None,
    seed: int = 0,
) -> NeuronMask:
    """Mask a share of the neurons that are still there, in the order of their entropy.

    Args:
        mask: What is masked already.
        statistics: Where entropy was measured.
        groups: The neuron groups of the model.
        share: Of all neurons of each kind.
        order: Which go first.
        settings: Which kinds of neurons, and what they compete with.
        seed: For the random order.

    Returns:
        A mask that keeps less.
    """
    settings = settings or NeuronEntropyConfig()
    generator = torch.Generator().manual_seed(seed)
    scores = {group.name: _score(order, entropy(statistics[group.name]), generator) for group in groups}
    return remove_top(mask, scores, groups, dict.fromkeys(settings.kinds, share), scope=settings.scope)


def _masks(
    statistics: ActivationStatistics, groups: tuple[NeuronGroup, ...], settings: NeuronEntropyConfig, seed: int
) -> Iterator[tuple[NeuronOrder, float, NeuronMask]]:
    """Every mask of one round."""
    everything = NeuronMask.keep_all(groups, statistics.model)
    for order in settings.orders:
        for share in settings.shares:
            yield order, share, entropy_mask(everything, statistics, groups, share, order, settings=settings, seed=seed)


def _score(order: NeuronOrder, values: Float[Tensor, " neuron"], generator: torch.Generator) -> Float[Tensor, " neuron"]:
    """What is high where a neuron goes first."""
    if order == "random":
        return torch.rand(values.shape, generator=generator, dtype=values.dtype)
    return values if order == "top" else -values


def _parts(prose: TokenBlocks, seeds: int) -> list[TokenBlocks]:
    """Cut the blocks into as many parts as there are seeds."""
    if len(prose.input_ids) < seeds:
        raise ConfigError(
            f"Every seed needs a block of its own to measure entropy on, got {seeds} seeds and {len(prose.input_ids)} "
            "blocks. Read more tokens, or take fewer seeds."
        )
    return list(prose.batches(len(prose.input_ids) // seeds))[:seeds]


def check_shares(groups: Sequence[NeuronGroup], settings: NeuronEntropyConfig) -> None:
    """Refuse shares of no neuron before anything is measured.

    Args:
        groups: The neuron groups of the model.
        settings: The shares, and what they are of.

    Raises:
        ConfigError: A share is not above 0 and at most 1, or masks no neuron.
    """
    sizes = [group.size for group in groups if group.kind in settings.kinds]
    competitors = {"global": sum(sizes), "layer": min(sizes, default=0)}[settings.scope]
    for share in settings.shares:
        if not 0 < share <= 1 or int(share * competitors + 1e-9) == 0:
            raise ConfigError(
                f"A share must be between 0 and 1 and mask at least one neuron, but {share:g} of {competitors} "
                f"{' and '.join(settings.kinds or KINDS)} neurons is none. Ask for a larger share."
            )
