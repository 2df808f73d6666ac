"""What a number was measured under: keys, a short hash, and how two protocols differ.

A protocol is a plain mapping that survives JSON. Keys in use: `num_samples`, `nfe`, every argument
of the predict function (`sampler`, `steps`, `guidance`, ...), `ema`, `resize`, `quantise`,
`features` (hash of the extractor's weights), `reference` (hash of the reference images), `seeds`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from diffjax.fingerprints import plain, short_hash

# Keys that name the draw and not the protocol: results that differ in these may be averaged.
REPEATS = ("seed", "seeds")


def protocol(**fields: Any) -> dict[str, Any]:
    """`fields` in plain form with their `hash`, which leaves out the keys in `REPEATS`."""
    given = {k: plain(v) for k, v in fields.items() if k != "hash"}
    hashed = {k: v for k, v in given.items() if k not in REPEATS}
    return {**given, "hash": short_hash(hashed)}


def extend(base: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """`base` with further fields (the caller knows `ema`, evaluators do not), hashed anew."""
    return protocol(**{**base, **fields})


def differences(
    a: Mapping[str, Any], b: Mapping[str, Any], varied: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Keys at which two protocols differ, with both values; `varied` ones are left out.

    `varied` are the keys that a table varies on purpose (an ablation's axes).
    """
    skip = {"hash", *REPEATS, *varied}
    left, right = plain(a), plain(b)
    keys = [k for k in (*left, *(k for k in right if k not in left)) if k not in skip]
    return {
        k: (left.get(k), right.get(k))
        for k in keys
        if k not in left or k not in right or left[k] != right[k]
    }


def same_protocol(a: Mapping[str, Any], b: Mapping[str, Any], varied: Collection[str] = ()) -> bool:
    """Whether two results may stand in one column unmarked."""
    return not differences(a, b, varied)
