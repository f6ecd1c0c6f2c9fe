"""What a search found, and how it got there."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from hf_untangle.architecture.commit import commit, keep_values
from hf_untangle.architecture.recomputed import check_not_recomputed
from hf_untangle.arguments import checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import MaskError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.nets.search_config import NetsConfig

FORMAT = "hf_untangle.ticket/1"


@checked_calls
@dataclass(frozen=True)
class Generation:
    """How one generation of one island did."""

    number: int
    """From 0."""
    fitness: float
    """Of the best individual: validation loss plus the price of its density; lower is better."""
    median_fitness: float
    """Of the whole population."""
    loss: float
    """Validation loss of the best individual, after its steps of learning."""
    density: float
    """Share of the maskable weights that the best individual keeps."""
    distinct: int
    """Different genomes in the population."""


@checked_calls
@dataclass(frozen=True, eq=False)
class Ticket:
    """A sparse initialization: the parameters to start from, and the mask to train under."""

    parameters: dict[str, Float[Tensor, "..."]]
    """Every parameter by name, not masked yet."""
    masks: dict[str, Bool[Tensor, "..."]]
    """Which entries stay (True), for every weight that can be masked."""
    config: NetsConfig
    history: tuple[Generation, ...]
    individual_steps: int
    """What the search cost: gradient steps of all individuals in all generations."""
    seconds: float
    __repr__ = fields_repr

    @property
    def density(self) -> float:
        """Share of the maskable weights that stay, from 0 to 1."""
        return sum(int(mask.sum()) for mask in self.masks.values()) / sum(mask.numel() for mask in self.masks.values())

    def densities(self) -> dict[str, float]:
        """The same of each weight."""
        return {name: float(mask.double().mean()) for name, mask in self.masks.items()}

    @torch.no_grad()
    def apply_(self, network: nn.Module) -> nn.Module:
        """Load the ticket into a network: its parameters, with zeros where the mask takes them.

        Training it further must hold the zeros at zero, as `nets.training.train_masked` does.

        Args:
            network: A network of the same structure, changed in place.

        Returns:
            The same network.

        Raises:
            MaskError: It has other parameters.
            ArchitectureError: Some of its weights are computed again whenever it runs.
        """
        check_not_recomputed(network)
        own = dict(network.named_parameters())
        shapes = {name: parameter.shape for name, parameter in own.items()}
        if shapes != {name: parameter.shape for name, parameter in self.parameters.items()}:
            raise MaskError("The ticket must be for a network of the same parameters and shapes, but this one has others.")
        with commit() as undo:
            keep_values(undo, own.values())
            for name, parameter in own.items():
                parameter.copy_(self.parameters[name] * self.masks[name] if name in self.masks else self.parameters[name])
            return network

    def save(self, file: str | Path) -> None:
        """Write one safetensors file.

        Args:
            file: Where to write.

        Raises:
            OutputError: The file cannot be written; what was there is untouched.
        """
        masks = {f"mask/{name}": mask.to(torch.uint8) for name, mask in self.masks.items()}
        parameters = {f"parameter/{name}": parameter for name, parameter in self.parameters.items()}
        write_tensors(file, masks | parameters, kind=FORMAT, record=self.record())

    def record(self) -> dict[str, Any]:
        """Everything but the tensors, ready for JSON."""
        return {
            "config": self.config.model_dump(),
            "history": [asdict(one) for one in self.history],
            "individual_steps": self.individual_steps,
            "seconds": self.seconds,
            "density": self.density,
            "densities": self.densities(),
        }

    @classmethod
    def load(cls, file: str | Path) -> "Ticket":
        """Read what `save` wrote.

        Args:
            file: A safetensors file.

        Returns:
            The ticket.

        Raises:
            MaskError: The file holds no ticket.
        """
        content = read_tensors(file, kind=FORMAT, what="a ticket", error=MaskError, record=_TicketRecord)
        names = _names(content.tensors, "parameter/")
        shapes = {name: tuple(content.tensors[f"parameter/{name}"].shape) for name in names}
        parameters = {name: content.finite(f"parameter/{name}", shapes[name]) for name in names}
        masks = {name: content.flags(f"mask/{name}", shapes.get(name, ())) for name in _names(content.tensors, "mask/")}
        content.check_names((*(f"parameter/{name}" for name in parameters), *(f"mask/{name}" for name in masks)))
        if not sum(mask.numel() for mask in masks.values()) or not masks.keys() <= parameters.keys():
            raise content.expected.fault("masks that do not belong to its parameters")
        record = content.record
        return cls(parameters, masks, record.config, record.history, record.individual_steps, record.seconds)


class _TicketRecord(FileRecord):
    """What a file says of the ticket in it; its densities are counted anew."""

    config: NetsConfig
    history: tuple[Generation, ...]
    individual_steps: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    density: float
    densities: dict[str, float]


def _names(tensors: dict[str, Tensor], prefix: str) -> list[str]:
    """Names behind a prefix."""
    return [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
