"""An affine map of an image, resampled at twice the resolution between orthonormal filters.

The image, reflected at its borders without end, is interpolated to twice the resolution by a
low-pass filter, sampled there bilinearly, and brought back by the same filter. Orthonormality
makes the way there and back of an unmoved image exact, and a moved one loses little sharpness
(Karras et al. 2020a, "Training GANs with limited data", appendix B).
"""

from __future__ import annotations

from functools import cache

import numpy as np

# Low-pass of the symlet with 6 vanishing moments (Daubechies 1992, table 6.3), norm 1, sum √2.
# It is nearly symmetric; no symmetric filter but the box is orthonormal.
SYM6 = np.array(
    [
        0.015404109327027,
        0.003490712084217,
        -0.117990111148191,
        -0.048311742585633,
        0.491055941926747,
        0.787641141030194,
        0.337929421727622,
        -0.072637522786462,
        -0.021060292512300,
        0.044724901770666,
        0.001767711864243,
        -0.007800708325034,
    ]
)
TAPS = len(SYM6)
# Fine sample n lies at pixel (n - CENTRE) / 2, as in the authors' code: the filter delays waves of
# all lengths by 4.8 to 5.1 samples.
CENTRE = 5.0


def warp(image: np.ndarray, source: np.ndarray) -> np.ndarray:
    """`image` moved so that what is shown at p comes from `source @ (p, 1)`.

    Args:
      image: `[H, W, C] float32`, H and W at least 2.
      source: `[2, 3] float64`; points are (x right, y down) in pixels from the image's centre.

    Returns:
      `[H, W, C] float32`. The filter's negative lobes may overshoot the range of `image` at edges.
    """
    h, w, _ = image.shape
    # Channels first, so that arithmetic runs along rows.
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    fine = _interpolation(h) @ planes @ _interpolation(w).T  # [C, 2 P_h + 1, 2 P_w + 1]
    seen = _bilinear(fine, *_fine_places(h, w, source))  # [C, 2 H + TAPS - 2, 2 W + TAPS - 2]
    return (_reduction(h) @ seen @ _reduction(w).T).transpose(1, 2, 0)


def _fine_places(h: int, w: int, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) in fine samples of the input, of every fine sample that the reduction reads."""
    centre_y, centre_x = (h - 1) / 2, (w - 1) / 2
    y = ((np.arange(2 * h + TAPS - 2) - CENTRE) / 2 - centre_y)[:, None]
    x = ((np.arange(2 * w + TAPS - 2) - CENTRE) / 2 - centre_x)[None, :]
    from_x = source[0, 0] * x + source[0, 1] * y + source[0, 2]
    from_y = source[1, 0] * x + source[1, 1] * y + source[1, 2]
    return 2 * (from_y + centre_y) + CENTRE, 2 * (from_x + centre_x) + CENTRE


def _bilinear(fine: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`fine [C, M + 1, N + 1]`, periodic with its last row and column the first again, at points
    `y, x [H, W]` -> `[C, H, W] float32`."""
    m, n = fine.shape[1] - 1, fine.shape[2] - 1
    top, fy = _cell(y, m)
    left, fx = _cell(x, n)
    flat = fine.reshape(len(fine), -1)
    at = top * (n + 1) + left

    def corner(offset: int) -> np.ndarray:
        # All are inside; "clip" only spares numpy a buffer.
        return np.take(flat, at + offset, axis=1, mode="clip")

    upper, lower = corner(0), corner(n + 1)
    upper += fx * (corner(1) - upper)
    lower += fx * (corner(n + 2) - lower)
    lower -= upper
    upper += fy * lower
    return upper


def _cell(place: np.ndarray, period: int) -> tuple[np.ndarray, np.ndarray]:
    """The sample before `place` within a period, in [0, period), and the way on from it, [0, 1]."""
    place = place - period * np.floor(place / period)
    # The remainder of a tiny negative number rounds to the period itself.
    before = np.minimum(place.astype(np.intp), period - 1)
    return before, (place - before).astype(np.float32)


@cache
def _interpolation(size: int) -> np.ndarray:
    """`[2 P + 1, size] float32`: pixels to one period of fine samples and the first again.

    Reflected at both ends (the border pixel not repeated), a line repeats every P = 2 size - 2.
    """
    period = 2 * size - 2
    matrix = np.zeros((2 * period + 1, size))
    for pixel in range(period):
        for k, tap in enumerate(SYM6):
            matrix[(2 * pixel + k) % (2 * period), min(pixel, period - pixel)] += tap
    matrix[-1] = matrix[0]
    # sqrt(2) there and 1/sqrt(2) back make fine samples values of the image, not only coefficients.
    return (matrix * 2**0.5).astype(np.float32)


@cache
def _reduction(size: int) -> np.ndarray:
    """`[size, 2 size + TAPS - 2] float32`: fine samples back to pixels."""
    matrix = np.zeros((size, 2 * size + TAPS - 2))
    for pixel in range(size):
        matrix[pixel, 2 * pixel : 2 * pixel + TAPS] = SYM6
    return (matrix * 0.5**0.5).astype(np.float32)
