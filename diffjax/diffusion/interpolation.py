"""Ways between two points: a straight line, and the great circle (Shoemake 1985; White 2016)."""

from __future__ import annotations

from typing import Any, Literal

Way = Literal["linear", "spherical"]


def between(a: Any, b: Any, shares: Any, path: Way) -> Any:
    """Points from `a [N, D]` to `b [N, D]` at `shares [T]` of the way, `[N, T, D]`.

    "linear", or "spherical": along the great circle, the length changing evenly (White 2016), so
    that codes between two of a Gaussian's are as long as its codes are. Ends on
    one line through 0 have no great circle between them; there the path is linear. Arrays of NumPy
    or of JAX.
    """
    xp = a.__array_namespace__()
    t = shares[None, :, None]
    a, b = a[:, None], b[:, None]
    straight = (1 - t) * a + t * b
    if path == "linear":
        return straight
    length_a, length_b = (xp.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    product = length_a * length_b
    cosine = (a * b).sum(-1, keepdims=True) / xp.maximum(product, 1e-12)
    angle = xp.arccos(xp.clip(cosine, -1, 1))
    sine = xp.sin(angle)
    flat = (sine < 1e-6) | (product < 1e-12)
    safe = xp.where(flat, 1.0, sine)
    unit = (xp.sin((1 - t) * angle) * a / xp.maximum(length_a, 1e-12)
            + xp.sin(t * angle) * b / xp.maximum(length_b, 1e-12)) / safe  # fmt: skip
    return xp.where(flat, straight, ((1 - t) * length_a + t * length_b) * unit)
