"""What is trained in a repair, and how it comes into the model: an adapter that is merged, or all weights.

Either way the model is written to in the last moment, once what was trained has been judged, and a failure before leaves every
weight, mode and flag of it as it was.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_untangle.architecture.commit import commit, keep_values, undone_on_failure, write_
from hf_untangle.architecture.untouched import untouched_on_failure
from hf_untangle.configs.repair import Method, RepairConfig
from hf_untangle.errors import StatisticsError

Train = Callable[[nn.Module, torch.dtype], None]
"""Trains what requires gradients in a module; where weights are float32, passes are computed in the dtype."""
Judge = Callable[[PreTrainedModel], Any]
"""Measures a finished model."""


def by_lora(model: PreTrainedModel, config: RepairConfig, train: Train, judge: Judge) -> tuple[Any, int]:
    """Train a low-rank adapter on every projection but the head (LoRA, arXiv:2106.09685), and merge it into the weights.

    Args:
        model: The model, changed in place once all has succeeded.
        config: The settings.
        train: Trains the adapter.
        judge: Measures the model with the adapter merged.

    Returns:
        Scores of the merged model, and how many parameters were trained.

    Raises:
        StatisticsError: The training ended in weights that are infinite or NaN.
    """
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=config.rank, lora_alpha=2 * config.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    # Long, so that interrupts are not held: an adapter that is in the model when one comes goes with it.
    with untouched_on_failure(model), undone_on_failure() as undo, _modes_and_flags_kept(model), _peft_warnings_silenced():
        keep_values(undo, model.parameters())
        torch.manual_seed(config.seed)
        adapted = get_peft_model(model, lora)
        trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
        train(adapted, torch.float32)
        _check_finite(adapted)
        adapted.base_model.merge_adapter()  # type: ignore[operator]
        adapted.base_model.unload()  # type: ignore[operator]
        return judge(model), trained


def by_all_weights(model: PreTrainedModel, config: RepairConfig, train: Train, judge: Judge) -> tuple[Any, int]:
    """Train a copy of all weights in float32, whose small steps a half-precision weight would round away.

    Args:
        model: The model, changed in place once all has succeeded.
        config: The settings.
        train: Trains the copy.
        judge: Measures the copy in the model's own dtypes.

    Returns:
        Scores of the model with the trained weights, and how many parameters were trained.
    """
    copy = deepcopy(model).float().requires_grad_(True)
    train(copy, model.dtype)
    for mine, trained in zip(model.parameters(), copy.parameters(), strict=True):
        trained.data = trained.data.to(mine.dtype)
        trained.grad = None
    scores = judge(copy)
    with commit() as undo:
        keep_values(undo, model.parameters())
        for mine, trained in zip(model.parameters(), copy.parameters(), strict=True):
            write_(mine, trained)
        return scores, copy.num_parameters()


REPAIRS: dict[Method, Callable[[PreTrainedModel, RepairConfig, Train, Judge], tuple[Any, int]]] = {
    "lora": by_lora,
    "full": by_all_weights,
}
"""How each method repairs."""


def _check_finite(adapted: nn.Module) -> None:
    """Refuse to merge an adapter that training has broken."""
    if not all(bool(parameter.isfinite().all()) for parameter in adapted.parameters() if parameter.requires_grad):
        raise StatisticsError(
            "What repair trains must stay finite, but the adapter holds NaN or infinity. The model is as it was: lower the "
            "learning_rate."
        )


@contextmanager
def _modes_and_flags_kept(model: nn.Module) -> Iterator[None]:
    """Give every module its mode, and every parameter its `requires_grad`, back afterwards."""
    with ExitStack() as undo:
        for module in model.modules():
            undo.callback(setattr, module, "training", module.training)
        for parameter in model.parameters():
            undo.callback(parameter.requires_grad_, parameter.requires_grad)
        yield


@contextmanager
def _peft_warnings_silenced() -> Iterator[None]:
    """Silence what peft says about its own use of transformers, which nobody here can act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to", category=UserWarning)
        yield
