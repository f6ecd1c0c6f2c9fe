"""Single weights: the lowest scores become zero, and come back."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.commit import keep_values
from hf_untangle.density.parameters import prunable_parameters
from hf_untangle.density.ranking import Ranking
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.density.units import Removal, Units, share_of


@contextmanager
def originals_kept(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let parameters be overwritten inside the `with` block, and put their own values back after it, whatever happened.

    The values wait in the host's memory, so that on an accelerator nothing but the model is held.

    Args:
        parameters: What the block may write to.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        keep_values(undo, parameters)
        yield


WeightScore = Callable[[str, Tensor], Float[Tensor, "..."]]
"""From a parameter's name and value to a score for each of its weights, on its device, all non-negative."""


def weight_units(model: nn.Module, settings: SweepConfig, score: WeightScore) -> Units:
    """Take single weights as what may go.

    Args:
        model: Any module.
        settings: Parts, what to skip, and the scope.
        score: What the ranking is by. It is computed again whenever it is needed, one tensor at a time, so that a sweep
            holds no score for longer.

    Returns:
        The weights.

    Raises:
        StatisticsError: A score is infinite or NaN.
    """
    prunable = prunable_parameters(model, settings.parts, settings.skip)
    parameters = prunable.parameters
    names = list(parameters)
    competitions = [names] if settings.scope == "global" else [[name] for name in names]
    rankings = [_ranking(parameters, competitors, score) for competitors in competitions]
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}

    @contextmanager
    def without(share: float) -> Iterator[Removal]:
        with originals_kept(parameters.values()):
            removed = {}
            for competitors, ranking in zip(competitions, rankings, strict=True):
                lowest = ranking.lowest(share_of(ranking.total, share))
                removed |= {name: _zero_(parameters[name], next(lowest)) for name in competitors}
            yield Removal(removed, sum(removed.values()))

    return Units(sizes, sum(sizes.values()), prunable.skipped, without)


def _ranking(parameters: dict[str, nn.Parameter], names: list[str], score: WeightScore) -> Ranking:
    """Rank the weights of some parameters against each other."""
    return Ranking(lambda: (score(name, parameters[name].detach()).float() for name in names))


@torch.no_grad()
def _zero_(parameter: nn.Parameter, goes: Tensor) -> int:
    """Zero some weights of a parameter, and count them."""
    parameter.masked_fill_(goes, 0)
    return int(goes.sum())
