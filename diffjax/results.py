"""Measured numbers: with an interval, or under a name with the protocol they were measured under.

A protocol is a plain mapping that survives JSON. Keys in use: `num_samples`, `nfe`, every argument
of the predict function (`sampler`, `steps`, `guidance`, ...), `ema`, `resize`, `quantise`,
`features` (hash of the extractor's weights), `reference` (hash of the reference images), `seeds`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffjax.fingerprints import plain, short_hash

# Keys that name the draw and not the protocol: results that differ in these may be averaged.
REPEATS = ("seed", "seeds")
# Metric in the records of earlier runs -> its name today.
RENAMED = {f"agreement{end}": f"class_accuracy{end}" for end in ("", "_low", "_high", "_real")}


@dataclass(frozen=True)
class Interval:
    """An estimate of a share or a mean.

    Attributes:
      value: the estimate.
      std: its standard error; None where it has none.
      low, high: ends of its interval, of 95 % unless said otherwise; None where it has none.
      count: of the observations, examples or seeds, that it is over.
    """

    value: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    count: int = 1

    @property
    def half_width(self) -> float | None:
        """From `value` to `high`."""
        return None if self.high is None else self.high - self.value

    def results(self, name: str, protocol: Mapping[str, Any]) -> Iterator[Result]:
        """The value, and the ends as "<name>_low" and "<name>_high"."""
        yield Result(name, self.value, self.std, protocol)
        for end, value in (("low", self.low), ("high", self.high)):
            if value is not None:
                yield Result(f"{name}_{end}", value, None, protocol)


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


def current_name(metric: str) -> str:
    """Today's name of a recorded `metric`, with or without its evaluator's before it ("a/b")."""
    before, slash, name = metric.rpartition("/")
    return before + slash + RENAMED.get(name, name)


def in_current_names(by_metric: Mapping[str, Any]) -> dict[str, Any]:
    """`by_metric` under its metrics' names of today."""
    return {current_name(metric): value for metric, value in by_metric.items()}


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
