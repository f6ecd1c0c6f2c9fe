"""What a ticket search needs of its network and its examples, checked before the first generation."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_untangle.errors import ArchitectureError, ConfigError
from hf_untangle.nets.functional import Examples, Loss, Program
from hf_untangle.nets.genes import fresh_parameters, genes_of

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
IGNORED = -100
"""The label that cross-entropy leaves out."""
FEW = 2
"""How many individuals and examples are tried."""


def checked_program(
    network: nn.Module, train: Examples, judged: Examples, loss: Loss = F.cross_entropy, chunk: int | None = None
) -> Program:
    """Make the batched program of a network, and try it on a few examples.

    Args:
        network: The network.
        train: Inputs and labels to learn from.
        judged: Inputs and labels to judge by.
        loss: Mean loss of outputs and labels.
        chunk: Individuals in one batched operation.

    Returns:
        The program.

    Raises:
        ArchitectureError: The network cannot run as a batched program, or a part of it is frozen or random.
        ConfigError: Inputs and labels do not belong together, or to the network.
    """
    _check_network(network)
    program = Program(network, genes_of(network), loss, chunk)
    for what, examples in (("train", train), ("judged", judged)):
        _check_examples(what, examples, next(network.parameters()).dtype)
    starts = fresh_parameters(network, program.genes, FEW, seed=0)
    for inputs, labels in (train, judged):
        few = inputs[:FEW], labels[:FEW]
        try:
            outputs = program.outputs(starts[0], few[0])
            _check_classes(loss, outputs, labels)
            program.gradients(starts, few)
        except ConfigError:
            raise
        except Exception as error:  # whatever the network's own code or vmap raises
            raise ArchitectureError(
                f"A population runs in one batched program (torch.func.vmap), where {type(network).__name__} raises "
                f"{type(error).__name__} on inputs of shape {tuple(few[0].shape)} ({str(error).partition(chr(10))[0]:.200}). "
                "Check the shapes of inputs and labels, and leave out what is random or decides in Python by numbers."
            ) from error
    return program


def _check_network(network: nn.Module) -> None:
    """Refuse what a batched program would train silently, or could not run."""
    parameters = dict(network.named_parameters())
    if frozen := [name for name, parameter in parameters.items() if not parameter.requires_grad]:
        raise ArchitectureError(
            f"A search draws and trains every parameter, but `{frozen[0]}` is frozen. Call requires_grad_(True), or search the "
            "part of the network that is trained."
        )
    if len(dtypes := {str(parameter.dtype).removeprefix("torch.") for parameter in parameters.values()}) > 1:
        raise ArchitectureError(
            f"All parameters must have one dtype, got {', '.join(sorted(dtypes))}. Convert them with .to()."
        )
    for name, module in network.named_modules():
        if isinstance(module, DROPOUT) and module.training and module.p > 0:
            raise ArchitectureError(
                f"`{name}` ({type(module).__name__}) is random, which a batched program cannot be. Call network.eval() to "
                "search without dropout."
            )


def _check_examples(what: str, examples: Any, dtype: torch.dtype) -> None:
    """Refuse inputs and labels that are not pairs, or have another dtype than the network."""
    if not isinstance(examples, tuple | list) or len(examples) != 2 or not all(isinstance(part, Tensor) for part in examples):
        raise ConfigError(f"The {what} examples must be two tensors, inputs and labels, got {type(examples).__name__}.")
    inputs, labels = examples
    if not inputs.ndim or not labels.ndim or len(inputs) != len(labels) or not len(inputs):
        raise ConfigError(
            f"The {what} examples must be as many labels as inputs, and at least one, got inputs of shape "
            f"{tuple(inputs.shape)} and labels of shape {tuple(labels.shape)}."
        )
    if inputs.is_floating_point() and inputs.dtype != dtype:
        raise ConfigError(
            f"The {what} inputs must have the dtype of the network, {dtype}, got {inputs.dtype}. Convert one of them "
            "with .to()."
        )


def _check_classes(loss: Loss, outputs: Tensor, labels: Tensor) -> None:
    """Refuse labels that are no classes of the network, where the loss takes classes."""
    labels = labels[labels != IGNORED]
    if loss is not F.cross_entropy or labels.is_floating_point() or outputs.ndim < 2 or not labels.numel():
        return
    classes, lowest, highest = outputs.shape[1], int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise ConfigError(
            f"Labels must be classes from 0 to {classes - 1}, as the network has {classes} outputs, got {lowest} to {highest}."
        )
