"""What an unlearning method may write: all weights, an adapter, chosen modules, or the neurons of a mask."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import is_projection, place_of
from hf_untangle.errors import ConfigError
from hf_untangle.masks.hold_removed import held_parameters, zero_weights_
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import zeros_of
from hf_untangle.methods.filtering import collapsed
from hf_untangle.methods.registry import Writes


@dataclass(frozen=True, eq=False)
class Part:
    """The entries of one parameter that may be written; everything else in it stays bit for bit as it is."""

    name: str
    parameter: nn.Parameter
    entries: Bool[Tensor, "..."] | None = None
    """Which entries; all of them when None."""

    def values(self) -> Tensor:
        """The entries: the parameter itself where all of them may be written, else one after another."""
        return self.parameter.detach() if self.entries is None else self.parameter.detach()[self.entries]

    def gradient(self) -> Tensor:
        """Gradients of the entries; zero where none flowed."""
        gradient = self.parameter.grad
        if gradient is None:
            return torch.zeros_like(self.values())
        return gradient if self.entries is None else gradient[self.entries]

    @torch.no_grad()
    def write_(self, values: Tensor) -> None:
        """Write the entries.

        Args:
            values: In the form that `values` gives.
        """
        if self.entries is None:
            self.parameter.copy_(values)
        else:
            self.parameter[self.entries] = values.to(self.parameter)


@dataclass(frozen=True, eq=False)
class Written:
    """What a method may write, and how its gradients are shaped before they are."""

    parts: tuple[Part, ...]
    shape: Callable[[Tensor], Tensor] | None = None
    """What a gradient becomes before a step; itself when None."""
    finish_: Callable[[], None] = lambda: None
    """Brings what was trained into the model's own weights."""


@dataclass(frozen=True, eq=False)
class Permission:
    """What a method is told about where it may write."""

    groups: tuple[NeuronGroup, ...]
    held: NeuronMask | None = None
    """A mask whose removed neurons stay at zero."""
    neurons: NeuronMask | None = None
    """A mask whose removed neurons alone may be written, with their producers."""
    modules: tuple[str, ...] = ()
    """Ends of module names."""
    layer: int = 0
    """The layer of RMU."""
    rank: int = 16
    components: int = 64
    """Singular directions that are damped in filtered gradients."""
    seed: int = 0


@contextmanager
def writable(model: PreTrainedModel, which: Writes, permission: Permission) -> Iterator[Written]:
    """Open what a method may write, and leave no gradient, flag or adapter behind.

    Args:
        model: The model, all of whose weights are in memory.
        which: A key of `WRITES`.
        permission: Which entries.

    Yields:
        The parts, whose parameters require gradients inside the `with` block alone.

    Raises:
        ConfigError: Nothing may be written, or what is asked for cannot be.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with ExitStack() as stack:
        stack.callback(_flags_back, flags)
        model.requires_grad_(False)
        written = WRITES[which](model, permission, stack)
        if not written.parts:
            raise ConfigError(f"writes=`{which}` must leave something to write, but nothing is left. Choose other modules.")
        for part in written.parts:
            part.parameter.requires_grad_(True)
        yield written


def _flags_back(flags: Sequence[tuple[nn.Parameter, bool]]) -> None:
    """Give parameters their own `requires_grad` back, and take gradients away."""
    for parameter, flag in flags:
        parameter.requires_grad_(flag)
        parameter.grad = None


def _everything(model: PreTrainedModel, permission: Permission, _: ExitStack) -> Written:
    """All floating-point parameters."""
    return Written(_parts(model, permission, [name for name, one in model.named_parameters() if one.is_floating_point()]))


def _of_modules(model: PreTrainedModel, permission: Permission, _: ExitStack) -> Written:
    """Parameters of modules by the ends of their names."""
    return Written(_parts(model, permission, _names_of(model, permission.modules)))


def _ffn_outputs(model: PreTrainedModel, permission: Permission, _: ExitStack) -> Written:
    """The FFN output projections of the chosen layer and of the two below it."""
    near = range(permission.layer - 2, permission.layer + 1)
    places = [place_of(model, group.name) for group in permission.groups if group.kind == "ffn" and group.layer in near]
    return Written(_parts(model, permission, [place.weight for place in places]))


def _ffn(model: PreTrainedModel, permission: Permission, _: ExitStack) -> Written:
    """The weights that compute and read FFN neurons."""
    groups = [group for group in permission.groups if group.kind == "ffn"]
    names = [name for group in groups for name in (*(one.name for one in group.producers), group.name)]
    return Written(_parts(model, permission, [place_of(model, name).weight for name in names]))


def _neurons(model: PreTrainedModel, permission: Permission, _: ExitStack) -> Written:
    """What reads and what computes the neurons that a mask removes."""
    if permission.neurons is None:
        raise ConfigError(
            "writes=`neurons` needs the neurons that may be written, got none. Pass `neurons=` a mask or a share."
        )
    entries: dict[str, Tensor] = {}
    for name, index in zeros_of(model, permission.neurons, permission.groups):
        mine = entries.setdefault(name, torch.zeros_like(model.get_parameter(name), dtype=torch.bool))
        mine[index] = True
    return Written(_parts(model, permission, list(entries), entries))


def _matrices(model: PreTrainedModel, permission: Permission, _: ExitStack) -> Written:
    """All matrices inside layers."""
    return Written(_parts(model, permission, matrices_in_layers(model, permission.groups)))


def _filtered(model: PreTrainedModel, permission: Permission, _: ExitStack) -> Written:
    """All matrices inside layers, by gradients whose largest singular directions are damped."""
    parts = _parts(model, permission, matrices_in_layers(model, permission.groups))
    return Written(parts, partial(collapsed, components=permission.components))


def _lora(model: PreTrainedModel, permission: Permission, stack: ExitStack) -> Written:
    """A low-rank adapter (arXiv:2106.09685), merged in the end."""
    from peft import LoraConfig, get_peft_model

    targets: Any = list(mask_targets(model, permission)) if permission.modules else "all-linear"
    lora = LoraConfig(r=permission.rank, lora_alpha=2 * permission.rank, target_modules=targets, task_type="CAUSAL_LM")
    stack.enter_context(_peft_warnings_silenced())
    with torch.random.fork_rng():
        torch.manual_seed(permission.seed)
        adapted: Any = get_peft_model(model, lora)
    stack.callback(adapted.base_model.unload)
    names = [name for name, _ in adapted.named_parameters() if "lora_" in name]
    held = [] if permission.held is None else held_parameters(adapted, permission.held, permission.groups)
    # The factor that reads starts at random, also where it reads removed neurons.
    zero_weights_(held)
    return Written(_parts(adapted, permission, names, held=held), finish_=adapted.base_model.merge_adapter)


WRITES: dict[Writes, Callable[[PreTrainedModel, Permission, ExitStack], Written]] = {
    "all": _everything,
    "lora": _lora,
    "modules": _of_modules,
    "neurons": _neurons,
    "matrices": _matrices,
    "ffn": _ffn,
    "ffn outputs": _ffn_outputs,
    "filtered": _filtered,
}
"""What may be written."""


def matrices_in_layers(model: nn.Module, groups: Sequence[NeuronGroup]) -> list[str]:
    """Name the weights of all projections inside the layers of a model, heads and embeddings left out.

    Args:
        model: The model.
        groups: Its neuron groups, which tell where its layers are.

    Returns:
        Names of parameters.
    """
    stacks = tuple({f"{group.stack}." for group in groups})
    return [f"{name}.weight" for name, module in model.named_modules() if name.startswith(stacks) and is_projection(module)]


def _names_of(model: nn.Module, ends: tuple[str, ...]) -> list[str]:
    """Names of the parameters of modules whose names end in one of some words; every word must fit one."""
    modules = dict(model.named_modules())
    found = []
    for end in ends:
        fitting = [name for name in modules if name == end or name.endswith(f".{end}")]
        own = [f"{name}.{own}" if name else own for name in fitting for own, _ in modules[name].named_parameters()]
        if not own:
            raise ConfigError(
                f"`modules` must name modules with weights, but no module's name ends in `{end}`. See `print(model)`."
            )
        found += own
    return sorted(set(found))


def mask_targets(model: nn.Module, permission: Permission) -> Iterator[str]:
    """Names of the projections that an adapter is put on; those that hold no neuron of the mask are refused."""
    allowed = None
    if permission.neurons is not None:
        gone = [group for group in permission.groups if not permission.neurons[group.name].all()]
        allowed = {group.name for group in gone} | {one.name for group in gone for one in group.producers}
    for name in {name.rpartition(".")[0] for name in _names_of(model, permission.modules)}:
        if allowed is not None and name not in allowed:
            raise ConfigError(
                f"LoRA may be put on projections that read or compute a neuron of the mask alone, but `{name}` is not one of "
                "these. Leave it out of `modules`, or leave out the mask."
            )
        if is_projection(model.get_submodule(name)):
            yield name


def _parts(
    model: nn.Module,
    permission: Permission,
    names: Sequence[str],
    entries: dict[str, Tensor] | None = None,
    held: Sequence[Any] | None = None,
) -> tuple[Part, ...]:
    """Parts of some parameters, without the entries of neurons that were removed."""
    if held is None:
        held = [] if permission.held is None else held_parameters(model, permission.held, permission.groups)
    closed: dict[int, Tensor] = {}
    for one in held:
        mine = closed.setdefault(id(one.parameter), torch.zeros_like(one.parameter, dtype=torch.bool))
        mine[one.entries] = True
    found, own = [], dict(model.named_parameters())
    for name in dict.fromkeys(name for name in names if name in own):
        may, never = (entries or {}).get(name), closed.get(id(own[name]))
        if never is not None:
            may = ~never if may is None else may & ~never
        if may is None or bool(may.any()):
            found.append(Part(name, own[name], may))
    return tuple(found)


@contextmanager
def _peft_warnings_silenced() -> Iterator[None]:
    """Silence what peft says about its own use of transformers, which nobody here can act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to", category=UserWarning)
        yield
