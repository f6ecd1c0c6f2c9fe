"""What one module of a language model gets to see, so that a feed-forward block can be studied on its own."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ArchitectureError


@checked_arguments
def module_inputs(
    model: nn.Module, name: str, batches: Iterable[Mapping[str, Tensor]]
) -> Iterator[Float[Tensor, "token width"]]:
    """Run a model and pass on the inputs of one of its modules.

    A feed-forward block is a function of this input alone, for instance in OPT
    `nn.Sequential(layer.fc1, layer.activation_fn, layer.fc2)` of the inputs of `fc1`.

    Args:
        model: The model; it is run as it is, without gradients.
        name: The module, as `model.named_modules()` calls it.
        batches: Keyword arguments of the model; tokens where `attention_mask` is 0 are left out.

    Yields:
        The inputs at all tokens of one batch.

    Raises:
        ArchitectureError: The model has no such module, or the module did not run.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        raise ArchitectureError(f"The model has no module `{name}`. See model.named_modules() for its names.")
    seen: list[Tensor] = []
    for batch in batches:
        with modules[name].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach())), torch.no_grad():
            model(**batch)
        if not seen:
            raise ArchitectureError(f"`{name}` did not run when the model did, so its inputs are not known.")
        hidden = seen.pop()
        tokens = hidden.reshape(-1, hidden.shape[-1])
        mask = batch.get("attention_mask")
        yield tokens if mask is None else tokens[mask.reshape(-1).bool()]
