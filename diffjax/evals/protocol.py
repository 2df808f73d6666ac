"""What a number was measured under: keys, a short hash, and how two protocols differ.

A protocol is a plain mapping that survives JSON. Keys in use: `num_samples`, `nfe`, every argument
of the predict function (`sampler`, `steps`, `guidance`, ...), `ema`, `resize`, `quantise`,
`features` (hash of the extractor's weights), `reference` (hash of the reference images), `seeds`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from diffjax.evals.batches import to_host

# Keys that name the draw and not the protocol: results that differ in these may be averaged.
REPEATS = ("seed", "seeds")


def _plain(value: Any) -> Any:
    """`value` as JSON would give it back, so a protocol read from a file equals a fresh one."""
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity: a browser refuses to read Python's
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__name__", None) or str(value)


def short_hash(value: Any) -> str:
    """Ten hex digits of the SHA-256 of a JSON-like value, whatever the order of its keys."""
    text = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def fingerprint(tree: Any) -> str:
    """Ten hex digits of the SHA-256 of a tree of arrays: paths, types, shapes and every byte."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        x = np.ascontiguousarray(to_host(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {x.dtype} {x.shape}".encode())
        digest.update(x.tobytes())
    return digest.hexdigest()[:10]


def protocol(**fields: Any) -> dict[str, Any]:
    """`fields` in plain form with their `hash`, which leaves out the keys in `REPEATS`."""
    plain = {k: _plain(v) for k, v in fields.items() if k != "hash"}
    hashed = {k: v for k, v in plain.items() if k not in REPEATS}
    return {**plain, "hash": short_hash(hashed)}


def extend(base: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """`base` with further fields (the caller knows `ema`, evaluators do not), hashed anew."""
    return protocol(**{**base, **fields})


def differing(
    protocols: Iterable[Mapping[str, Any]], varied: Collection[str] = ()
) -> dict[str, list[Any]]:
    """Keys at which protocols differ, each with its different values in their order, None for a
    protocol that lacks the key.

    Left out are the `hash`, the keys in `REPEATS`, and those `varied` on purpose (an ablation's
    axes).
    """
    said = [_plain(protocol) for protocol in protocols]
    skip = {"hash", *REPEATS, *varied}
    found = {}
    for key in dict.fromkeys(key for protocol in said for key in protocol if key not in skip):
        values = [(key in protocol, protocol.get(key)) for protocol in said]
        unique = [v for n, v in enumerate(values) if v not in values[:n]]
        if len(unique) > 1:
            found[key] = [value for _, value in unique]
    return found


def same_protocol(*protocols: Mapping[str, Any], varied: Collection[str] = ()) -> bool:
    """Whether results under these protocols may stand in one column unmarked."""
    return not differing(protocols, varied)
