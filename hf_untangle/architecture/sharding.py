"""Parameters that are spread over processes: those of FSDP2 are gathered as needed, those of DeepSpeed ZeRO-3 are refused.

Processes that share one model must run it in step: each pass gathers weights from all of them.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.offload import is_offloaded
from hf_untangle.errors import ArchitectureError

PREFIX = "FSDP"
"""What `fully_shard` puts before the name of a module's class."""


def is_shard(tensor: Tensor) -> bool:
    """Tell whether a tensor is spread over processes.

    Args:
        tensor: A parameter.

    Returns:
        True for a `DTensor`.
    """
    return hasattr(tensor, "full_tensor")


def is_sharded(model: nn.Module) -> bool:
    """Tell whether a model is spread over processes.

    Args:
        model: Any model.

    Returns:
        True when some of its parameters are.
    """
    return any(map(is_shard, model.parameters()))


def comes_and_goes(model: nn.Module) -> bool:
    """Tell whether some weights are whole only while their module runs.

    Args:
        model: Any model.

    Returns:
        True when it is offloaded or sharded.
    """
    return is_offloaded(model) or is_sharded(model)


def own_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """Find the class that a model had before it was sharded.

    Args:
        model: The model.

    Returns:
        A class of transformers.
    """
    classes = (one for one in type(model).__mro__ if not one.__name__.startswith(PREFIX))
    return cast(type[PreTrainedModel], next(classes))


@torch.no_grad()
def write_shard_(parameter: Tensor, whole: Tensor) -> None:
    """Write this process's part of a parameter that is spread over processes.

    Args:
        parameter: The parameter, changed in place.
        whole: What all parts together are to hold, the same in every process.
    """
    from torch.distributed.tensor import distribute_tensor

    shard: Any = parameter
    part = distribute_tensor(whole, shard.device_mesh, shard.placements, src_data_rank=None)
    shard.to_local().copy_(part.to_local())


def check_whole(model: nn.Module) -> None:
    """Refuse a model that DeepSpeed, or FSDP of the first version, has taken apart.

    Args:
        model: Any model.

    Raises:
        ArchitectureError: A parameter belongs to ZeRO-3, which leaves nothing of it in the model, or a module to FSDP1.
    """
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise ArchitectureError(
            "A model can be sharded by FSDP2, got `FullyShardedDataParallel`, which is its first version. Use "
            "`fully_shard`, or `fsdp_version: 2` with accelerate."
        )
    apart = next((name for name, one in model.named_parameters() if hasattr(one, "ds_id")), None)
    if apart is not None:
        raise ArchitectureError(
            f"The weights must be whole, offloaded by accelerate or sharded by FSDP2, but DeepSpeed ZeRO-3 has taken `{apart}` "
            "apart. Load the model without ZeRO, with `device_map=` or `fully_shard`, or prune its saved checkpoint with "
            "`remove_folder`."
        )
