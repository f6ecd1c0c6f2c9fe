"""One FFN or attention block of a model: where it is, what of it is trained, and what went into it and came out of it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_module
from accelerate.utils import convert_to_fp32, send_to_device
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.parameters import Index, read_matrix, read_parameter
from hf_untangle.architecture.projections import place_of
from hf_untangle.compensation.layer_by_layer import HOST, LayerByLayer, copied, first_tensor
from hf_untangle.errors import MaskError, StatisticsError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import zeros_of


@dataclass(frozen=True, eq=False)
class BlockCall:
    """One pass of a batch through a block, on the CPU."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    written: Float[Tensor, "row output"]
    """What the block with all of its neurons has written."""
    counted: Bool[Tensor, " row"] | None
    """Which rows count; None when all do."""

    def on(self, device: torch.device) -> "BlockCall":
        """The same on another device, in float32.

        Args:
            device: Where to.

        Returns:
            Copies, where it is another device or dtype.
        """
        here: Any = send_to_device((self.args, self.kwargs, self.written, self.counted), device)
        inputs: Any = convert_to_fp32(here[:2])
        args, kwargs = inputs
        return BlockCall(args, kwargs, here[2].float(), here[3])

    def missed(self, block: nn.Module) -> Float[Tensor, ""]:
        """The squared error of another block that stands instead of that one.

        Args:
            block: The block.

        Returns:
            Summed over the rows that count.
        """
        return self._size(first_tensor(block(*self.args, **self.kwargs)).flatten(0, -2) - self.written)

    def energy(self) -> Float[Tensor, ""]:
        """The square of what was written, summed over the rows that count."""
        return self._size(self.written.float())

    def _size(self, rows: Float[Tensor, "row output"]) -> Float[Tensor, ""]:
        """The sum of squares over the rows that count."""
        return (rows if self.counted is None else rows[self.counted]).square().sum()


@dataclass(frozen=True, eq=False)
class DenseBlock:
    """The smallest module that holds all weights of a neuron group."""

    model: nn.Module
    group: NeuronGroup
    path: str

    @classmethod
    def of(cls, model: nn.Module, group: NeuronGroup) -> "DenseBlock":
        """Find the block of a neuron group.

        Args:
            model: The model.
            group: The group.

        Returns:
            Its block.
        """
        parts = [place_of(model, name).weight.split(".") for name in _projections(group)]
        shared = next((n for n, some in enumerate(zip(*parts, strict=False)) if len(set(some)) > 1), 0)
        # Where nothing computes the neurons, their projection alone is the block; else never a list, which does not run.
        path = parts[0][:shared] if shared else parts[0][:-1]
        while isinstance(model.get_submodule(".".join(path)), nn.ModuleList | nn.ModuleDict):
            path = path[:-1]
        return cls(model, group, ".".join(path))

    @property
    def projections(self) -> dict[str, str]:
        """The projections that read and compute the neurons, and the names of their weights inside the block."""
        return {name: self.inside(place_of(self.model, name).weight) for name in _projections(self.group)}

    def inside(self, name: str) -> str:
        """The name of a parameter of the model inside the block.

        Args:
            name: Its name in the model.

        Returns:
            The name in the block.
        """
        return name.removeprefix(f"{self.path}.")

    def zeros(self, mask: NeuronMask) -> dict[str, list[Index]]:
        """What belongs to removed neurons alone.

        Args:
            mask: Which neurons stay.

        Returns:
            By the name of a parameter inside the block, where in it that is.
        """
        alone = mask.with_kept({self.group.name: mask[self.group.name]})
        found: dict[str, list[Index]] = {}
        for name, index in zeros_of(self.model, alone, (self.group,)):
            found.setdefault(self.inside(name), []).append(index)
        return found

    def pruned(self, mask: NeuronMask, weights: Mapping[str, Tensor], constants: Float[Tensor, " neuron"] | None) -> nn.Module:
        """Copy the block without its removed neurons, to be trained.

        Args:
            mask: Which neurons stay.
            weights: Weights of its projections to begin with; their own where there are none.
            constants: What removed neurons are held at; zero when None.

        Returns:
            The copy in float32, in evaluation mode, whose projections alone require gradients.

        Raises:
            MaskError: Removed neurons are held at constants, and no bias can hold that.
        """
        copy = self._copy()
        with torch.no_grad():
            if constants is not None and bool(constants.any()):
                self._shift_bias_(copy, ~mask[self.group.name], constants)
            for name, weight in weights.items():
                copy.get_parameter(self.projections[name]).copy_(weight)
            for name, places in self.zeros(mask).items():
                for index in places:
                    copy.get_parameter(name)[index] = 0
        for name in self.projections.values():
            copy.get_parameter(name).requires_grad_(True)
        return copy

    def _copy(self) -> nn.Module:
        """The block with weights of its own in float32, wherever they lie."""
        module = self.model.get_submodule(self.path)
        hooks = [one._hf_hook for one in module.modules() if hasattr(one, "_hf_hook")]
        # What brings offloaded weights is shared, as it holds those of the whole model.
        copy = remove_hook_from_module(deepcopy(module, {id(hook): hook for hook in hooks}), recurse=True)
        device = input_device(module)
        for name, parameter in list(copy.named_parameters()):
            owner, _, own = name.rpartition(".")
            whole = read_parameter(self.model, f"{self.path}.{name}") if parameter.is_meta else parameter
            setattr(copy.get_submodule(owner), own, nn.Parameter(whole.detach().to(device, copy=True), requires_grad=False))
        return copy.to(device).float().eval()

    def _shift_bias_(self, copy: nn.Module, gone: Bool[Tensor, " neuron"], constants: Float[Tensor, " neuron"]) -> None:
        """Add to the bias what removed neurons write at their constants, by the model's own weights."""
        place, matrix = place_of(self.model, self.group.name), read_matrix(self.model, self.group.name)
        if place.bias is None or matrix.bias is None:
            raise MaskError(
                f"Removed neurons that read their mean need a bias of `{self.group.name}` where blocks are trained, but there "
                "is none. Use ablation='zero', or compensate='least-squares'."
            )
        held = torch.where(gone, constants, 0).view(len(matrix.weight), -1, 1).to(matrix.weight.device).double()
        written = (matrix.weight.double() @ held)[..., 0]
        bias = copy.get_parameter(self.inside(place.bias))
        bias += (written if place.is_stack else written[0]).to(bias)


def record_calls(blocks: Sequence[DenseBlock], layers: LayerByLayer, number: int) -> dict[str, list[tuple[int, BlockCall]]]:
    """Run a layer on every batch, and keep what goes into some of its blocks and comes out of them.

    Args:
        blocks: Blocks of that layer that do not feed each other.
        layers: Runs the layers.
        number: Which layer.

    Returns:
        By the name of the group: the calls of its block, each with the number of its batch.

    Raises:
        StatisticsError: Some tokens do not count, and which of them a block has seen is not known.
    """
    found: dict[str, list[tuple[int, BlockCall]]] = {block.group.name: [] for block in blocks}
    seen: list[tuple[str, tuple[Any, ...], dict[str, Any], Tensor]] = []

    def keep(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            seen.append((name, *copied((args, kwargs, first_tensor(output)), HOST)))

        return hook

    with ExitStack() as hooks:
        for block in blocks:
            module = block.model.get_submodule(block.path)
            hooks.callback(module.register_forward_hook(keep(block.group.name), with_kwargs=True).remove)
        for batch, index in layers.run(number):
            for name, args, kwargs, output in seen:
                written = output.flatten(0, -2)
                found[name].append((index, BlockCall(args, kwargs, written, _counted(batch.counted, len(written), name))))
            seen.clear()
    return found


def _counted(counted: Bool[Tensor, "..."], rows: int, name: str) -> Bool[Tensor, " row"] | None:
    """Which rows of a call count."""
    if bool(counted.all()):
        return None
    if counted.numel() != rows:
        raise StatisticsError(
            f"All tokens must count where the block of `{name}` is trained, as it sees others than the batch has, but of "
            f"{counted.numel()} only {int(counted.sum())} do. Use a longer corpus, which fills its blocks, or "
            "compensate='least-squares'."
        )
    return counted.flatten()


def _projections(group: NeuronGroup) -> list[str]:
    """The output projection of a group, and those that compute its neurons."""
    return list(dict.fromkeys([group.name, *(producer.name for producer in group.producers)]))
