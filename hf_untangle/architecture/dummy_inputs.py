"""Dummy inputs: what a model of any kind can be called with."""

import inspect
from typing import Any

import torch
from torch import nn

POSITIONS = 2
"""Dummy tokens in a sequence: two, so that what mixes positions can be told from what does not."""


def dummy_inputs(model: nn.Module, sequences: int) -> dict[str, Any]:
    """Make inputs of every kind that a model asks for, all of them constant.

    Args:
        model: A model from transformers.
        sequences: How many sequences, images or recordings.

    Returns:
        Keyword arguments of the model.
    """
    device = next(model.parameters()).device
    asked = inspect.signature(model.forward).parameters
    tokens = torch.ones(sequences, POSITIONS, dtype=torch.long, device=device)
    makers = {
        "input_ids": lambda: tokens,
        "attention_mask": lambda: torch.ones_like(tokens),
        # At one and the same position no rotation tells keys apart, so that attention averages evenly.
        "position_ids": lambda: torch.zeros_like(tokens),
        "decoder_input_ids": lambda: tokens,
        "pixel_values": lambda: _image(model, sequences),
        "input_features": lambda: _spectrogram(model, sequences),
    }
    if "grid_thw" in asked:
        return _patches(model, sequences)
    main = getattr(model, "main_input_name", "input_ids")
    wanted = {main} | (
        {"input_ids", "attention_mask", "position_ids"} if "input_ids" in asked and main != "input_features" else set()
    )
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        wanted.add("decoder_input_ids")
    if _has_towers(model) or not wanted & set(asked):
        wanted.add("pixel_values")
    inputs: dict[str, Any] = {name: make() for name, make in makers.items() if name in wanted and name in asked}
    return inputs | ({"use_cache": False} if "use_cache" in asked else {})


def _has_towers(model: nn.Module) -> bool:
    """Tell whether a model compares images with texts, so that it needs both."""
    return all(hasattr(model, tower) for tower in ("text_model", "vision_model", "logit_scale"))


def _image(model: nn.Module, number: int) -> torch.Tensor:
    """Images of the size that the configuration states."""
    config: Any = model.config
    config = getattr(config, "vision_config", config)
    size = config.image_size if isinstance(config.image_size, (tuple, list)) else (config.image_size, config.image_size)
    return _ones_like_weights(model, (number, config.num_channels, *size))


def _patches(model: nn.Module, number: int) -> dict[str, torch.Tensor]:
    """Images of as few patches as are merged into one token, for towers that read patches with a grid."""
    config: Any = model.config
    side = config.spatial_merge_size
    channels = getattr(config, "in_channels", None) or getattr(config, "in_chans", 3)
    width = channels * config.temporal_patch_size * config.patch_size**2
    grid = torch.tensor([[1, side, side]] * number, device=next(model.parameters()).device)
    return {"hidden_states": _ones_like_weights(model, (number * side * side, width)), "grid_thw": grid}


def _spectrogram(model: nn.Module, number: int) -> torch.Tensor:
    """Recordings of the length that the configuration states, which the encoder halves."""
    config: Any = model.config
    return _ones_like_weights(model, (number, config.num_mel_bins, 2 * config.max_source_positions))


def _ones_like_weights(model: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """Ones where the model's weights are, in their dtype."""
    weight = next(model.parameters())
    return torch.ones(shape, device=weight.device, dtype=weight.dtype)
