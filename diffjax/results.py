"""A measured number, and its protocol: what it was measured under, and how two protocols differ.

A protocol is a plain mapping that survives JSON. Keys in use: `num_samples`, `nfe`, every argument
of the predict function (`sampler`, `steps`, `guidance`, ...), `ema`, `resize`, `quantise`,
`features` (hash of the extractor's weights), `reference` (hash of the reference images), `seeds`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffjax.fingerprints import plain, short_hash

# Keys that name the draw and not the protocol: results that differ in these may be averaged.
REPEATS = ("seed", "seeds")


@dataclass(frozen=True)
class Result:
    """A measured number under its name.

    Two results of different protocols must never stand in one column unmarked.

    Attributes:
      name: of the metric.
      std: the standard error of `value`; None where it has none.
      protocol: see `protocol`.
    """

    name: str
    value: float
    std: float | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)


def protocol(**fields: Any) -> dict[str, Any]:
    """`fields` in plain form with their `hash`, which leaves out the keys in `REPEATS`."""
    plain_fields = {k: plain(v) for k, v in fields.items() if k != "hash"}
    hashed = {k: v for k, v in plain_fields.items() if k not in REPEATS}
    return {**plain_fields, "hash": short_hash(hashed)}


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
    said = [plain(protocol) for protocol in protocols]
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
