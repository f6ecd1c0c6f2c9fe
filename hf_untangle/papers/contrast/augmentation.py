"""Small random changes of items in training, so that two copies of one item are never quite the same."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

ROTATION = 0.1 * 2 * math.pi
"""Largest rotation, in radians: a tenth of a turn."""
CONTRAST, TRANSLATION, ZOOM = 0.2, 0.1, 0.1
"""Largest changes of contrast, of place (as a share of the side) and of size."""
REPLACED, SHIFT = 0.1, 4
"""Share of bytes that are replaced by others, and the largest number of places that a block of bytes is turned by."""


def change_images(images: Float[Tensor, "item channel y x"]) -> Float[Tensor, "item channel y x"]:
    """Rotate, shift, zoom and change the contrast of every image on its own; what lies outside repeats the border.

    Args:
        images: Values from 0 to 1.

    Returns:
        Images of the same size.
    """
    angle, zoom, contrast = (_around_zero(len(images), most) for most in (ROTATION, ZOOM, CONTRAST))
    shift = 2 * _around_zero(len(images) * 2, TRANSLATION).view(-1, 2)  # the grid is 2 wide
    turned = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(-1, 2, 2)
    affine = torch.cat([(1 + zoom)[:, None, None] * turned, shift[:, :, None]], -1).to(images)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    mean = moved.mean((-2, -1), keepdim=True)
    return mean + (moved - mean) * (1 + contrast.to(moved))[:, None, None, None]


def change_texts(texts: Int[Tensor, "item position"]) -> Int[Tensor, "item position"]:
    """Turn every block by a few places, and replace some of its bytes by bytes of other places in it.

    Args:
        texts: Bytes from 0 to 255.

    Returns:
        Blocks of the same size.
    """
    length = texts.shape[1]
    shift = torch.randint(-SHIFT, SHIFT + 1, (len(texts), 1), device=texts.device)
    place = (torch.arange(length, device=texts.device) + shift) % length
    elsewhere = torch.randint(length, texts.shape, device=texts.device)
    replaced = torch.rand(texts.shape, device=texts.device) < REPLACED
    return texts.gather(1, torch.where(replaced, elsewhere, place))


def _around_zero(count: int, most: float) -> Float[Tensor, " n"]:
    """Random numbers between -most and most."""
    return (2 * torch.rand(count) - 1) * most
