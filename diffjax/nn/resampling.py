"""Resizing feature maps by two: box and binomial filters, without parameters."""

from __future__ import annotations

import jax
import numpy as np
from jax import Array

from diffjax.nn.convolution import LAYOUT

BOX = (1, 1)


def upsample(x: Array, taps: tuple[int, ...] = BOX) -> Array:
    """`x [B, H, W, C] -> [B, 2H, 2W, C]`, filtered by the outer product of `taps`.

    The box filter is nearest-neighbour repetition; longer filters are StyleGAN's, as in NCSN++
    (Song et al. 2021, appendix H.1). `taps` has even length and the sum of its square is divided
    out, so that a constant stays a constant away from the border.
    """
    if tuple(taps) == BOX:
        b, h, w, c = x.shape
        y = jax.numpy.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
        return y.reshape(b, 2 * h, 2 * w, c)
    pad = len(taps) // 2
    return _depthwise(x, 4 * _filter(taps), stride=1, padding=pad, dilation=2)


def downsample(x: Array, taps: tuple[int, ...] = BOX, padding: int | None = None) -> Array:
    """`x [B, H, W, C] -> [B, H/2, W/2, C]`, filtered by the outer product of `taps`.

    The box filter is 2x2 mean pooling. `padding` zeros on each side; None halves the size.
    """
    if tuple(taps) == BOX and not padding:
        b, h, w, c = x.shape
        return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    pad = (len(taps) - 1) // 2 if padding is None else padding
    return _depthwise(x, _filter(taps), stride=2, padding=pad, dilation=1)


def _filter(taps: tuple[int, ...]) -> np.ndarray:
    f = np.asarray(taps, np.float64)
    return (np.outer(f, f) / f.sum() ** 2).astype(np.float32)


def _depthwise(x: Array, f: np.ndarray, stride: int, padding: int, dilation: int) -> Array:
    """The same filter `f [k, k]` on every channel; `dilation` 2 puts zeros between pixels."""
    channels = x.shape[-1]
    kernel = np.broadcast_to(f[:, :, None, None], (*f.shape, 1, channels))
    return jax.lax.conv_general_dilated(
        x,
        jax.numpy.asarray(kernel, x.dtype),
        (stride, stride),
        ((padding, padding),) * 2,
        lhs_dilation=(dilation, dilation),
        dimension_numbers=LAYOUT,
        feature_group_count=channels,
    )
