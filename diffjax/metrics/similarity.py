"""Similarity of pairs of images, pixel by pixel and window by window."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Wang et al. 2004, section III-B: an 11 x 11 circular Gaussian window of 1.5 pixels, K1 and K2.
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def psnr(a: np.ndarray, b: np.ndarray, peak: float = 255.0) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each pair of `a`, `b [N, ...]`, `[N] float64`:
    `10 log10(peak^2 / mean squared error)`, infinite for equal images."""
    error = np.square(a.astype(np.float64) - b).reshape(len(a), -1).mean(axis=1)
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(peak**2 / error)


def ssim(a: np.ndarray, b: np.ndarray, peak: float = 255.0) -> np.ndarray:
    """Structural similarity of each pair of `a`, `b [N, H, W, C]`, `[N] float64` in [-1, 1].

    Wang et al. 2004, eq. 13, averaged over the places whose window lies inside the image, and over
    channels.

    Raises:
      ValueError: images smaller than the window, or of different shapes.
    """
    if a.shape != b.shape or min(a.shape[1:3]) < WINDOW:
        raise ValueError(
            f"ssim needs two sets of images of one shape, at least {WINDOW} pixels a side, not "
            f"{a.shape} and {b.shape}"
        )
    # One by one: large images in float64, five times over, would fill the memory.
    return np.asarray([_ssim(x, y, peak) for x, y in zip(a, b, strict=True)])


def _ssim(x: np.ndarray, y: np.ndarray, peak: float) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mx, my = _windowed(x), _windowed(y)
    # Variances about the window's mean, eq. 14 to 16, by the parallel axis theorem.
    vx, vy, vxy = (
        _windowed(x * x) - mx * mx,
        _windowed(y * y) - my * my,
        _windowed(x * y) - mx * my,
    )
    near = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(near.mean())


def _windowed(x: np.ndarray) -> np.ndarray:
    """Weighted means `[H - 10, W - 10, C]` of the windows inside `x [H, W, C]`."""
    half = WINDOW // 2
    weight = np.exp(-0.5 * (np.arange(-half, half + 1) / SIGMA) ** 2)
    for axis in (0, 1):
        x = ndimage.correlate1d(x, weight / weight.sum(), axis)
    return x[half:-half, half:-half]
