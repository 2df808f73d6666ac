"""The order of training: position in the endless stream of examples -> index in the source.

Every epoch is another permutation, and any position is found without computing those before it:
a Feistel network permutes a rectangle of a x b >= n cells, and walking its cycles keeps it inside
[0, n) (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). No table, so a source of
a billion examples costs what one of a hundred costs; a batch at a time, where Grain's own shuffle
takes 40 microseconds an example; and no library's shuffle to change under a resumed run.
"""

from __future__ import annotations

import math

import numpy as np

from diffjax.data.draws import mix, seed_word

_ROUNDS = 4  # Pairs of half-rounds.


def shuffled(positions: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices `[B] int64` in [0, n) at `positions [B] int64` >= 0; epoch = position // n."""
    epoch, inside = np.divmod(np.asarray(positions, np.int64), n)
    keys = mix(seed_word(seed, "order") ^ mix(epoch.astype(np.uint64)))
    # The rectangle has fewer than sqrt(n) + 1 cells to spare: walking is rare.
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    index = _feistel(inside.astype(np.uint64), keys, a, b)
    while (outside := index >= n).any():
        index[outside] = _feistel(index[outside], keys[outside], a, b)
    return index.astype(np.int64)


def _feistel(x: np.ndarray, keys: np.ndarray, a: int, b: int) -> np.ndarray:
    """A permutation of [0, a b) per key: `x [B]`, `keys [B]` uint64 -> `[B]` uint64."""
    left, right = np.divmod(x, np.uint64(b))
    for i in range(_ROUNDS):
        # The top bits number the half-rounds, so that no two hash the same number.
        left = (left + mix(keys + np.uint64(2 * i << 58) + right) % np.uint64(a)) % np.uint64(a)
        right = (right + mix(keys + np.uint64(2 * i + 1 << 58) + left) % np.uint64(b)) % np.uint64(
            b
        )
    return left * np.uint64(b) + right
