"""Weights that are computed again whenever a module runs, so that what is written to them is lost.

`torch.nn.utils.prune`, `weight_norm` and `spectral_norm` keep other parameters instead, of which a hook makes the weight before
every pass. Parametrizations (`torch.nn.utils.parametrize`, and `weight_norm` and `spectral_norm` below it) make it whenever it
is read.
"""

from collections.abc import Iterator

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from hf_untangle.errors import ArchitectureError

MADE_PERMANENT_BY = {
    BasePruningMethod: ("torch.nn.utils.prune", "torch.nn.utils.prune.remove"),
    WeightNorm: ("torch.nn.utils.weight_norm", "torch.nn.utils.remove_weight_norm"),
    SpectralNorm: ("torch.nn.utils.spectral_norm", "torch.nn.utils.remove_spectral_norm"),
}
"""What makes a weight anew before every pass, by the class of its hook, and what ends that."""


def recomputed_weights(module: nn.Module) -> Iterator[tuple[str, str, str]]:
    """List the tensors of one module that are computed again whenever it runs.

    Args:
        module: Any module; those inside it are not looked at.

    Yields:
        The tensor's name in the module, what computes it, and the call that makes it an ordinary parameter.
    """
    for hook in module._forward_pre_hooks.values():
        for kind, (maker, remover) in MADE_PERMANENT_BY.items():
            if isinstance(hook, kind):
                name = str(getattr(hook, "_tensor_name", None) or getattr(hook, "name", "weight"))
                yield name, f"`{maker}`", f'`{remover}(module, "{name}")`'
    if is_parametrized(module):
        for name in module.parametrizations:  # type: ignore[union-attr]
            remover = f'`torch.nn.utils.parametrize.remove_parametrizations(module, "{name}")`'
            yield name, "a parametrization", remover


def check_not_recomputed(model: nn.Module) -> None:
    """Refuse a model some of whose weights are computed again whenever it runs.

    Args:
        model: Any model, all of whose modules are looked at: what it computes depends on all of them, and a checkpoint of it
            has other tensors than its class expects.

    Raises:
        ArchitectureError: There is such a weight.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ArchitectureError(
                f"Weights must be there, but `{name}` is made when its module first runs. Run the model once on an example."
            )
    for path, module in model.named_modules():
        for name, maker, remover in recomputed_weights(module):
            full = f"{path}.{name}".lstrip(".")
            where = f'`model.get_submodule("{path}")`' if path else "the model"
            raise ArchitectureError(
                f"Weights must be parameters to be written to, but `{full}` is computed by {maker} whenever the model runs, so "
                f"that changes of it would be lost. Make it permanent first: call {remover} on {where}, and so on for every "
                "such module."
            )
