"""Claims of a study: each a number, read off its results, with the band it must lie in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Reads a number off results; None where they are not there yet.
Value = Callable[[Any], float | None]


@dataclass(frozen=True)
class Claim:
    """Attributes:
    label: in words.
    value: reads the number off the study's results; None where they are not there yet.
    low, high: the band.
    note: what the number is.
    """

    label: str
    value: Value
    low: float
    high: float
    note: str

    def holds(self, results: Any) -> bool:
        value = self.value(results)
        return value is not None and self.low <= value <= self.high


def cards(claims: Sequence[Claim], results: Any) -> list[dict[str, Any]]:
    """The claims as a report shows them."""
    return [_card(claim, results) for claim in claims]


def lines(claims: Sequence[Claim], results: Any) -> list[str]:
    """The claims as a terminal shows them."""
    return [
        f"{'ok ' if claim.holds(results) else 'NOT'} {claim.label}: {_shown(claim, results)} in "
        f"{_band(claim)}"
        for claim in claims
    ]


def _card(claim: Claim, results: Any) -> dict[str, Any]:
    state = "met" if claim.holds(results) else "unmet"
    return {
        "group": "",
        "label": claim.label,
        "value": _shown(claim, results),
        "error": f"in {_band(claim)}",
        "state": "missing" if claim.value(results) is None else state,
        "note": claim.note,
    }


def _shown(claim: Claim, results: Any) -> str:
    value = claim.value(results)
    return "–" if value is None else f"{value:.3g}"


def _band(claim: Claim) -> str:
    return f"[{claim.low:g}, {claim.high:g}]"


def ratio(metric: str, over: Mapping[str, Any], under: Mapping[str, Any]) -> Value:
    """A sweep's ratio: the mean of `metric` in the row `over` of its `Table`, divided by that in
    `under`."""

    def value(table: Any) -> float | None:
        a, b = (table.value(metric, **row) for row in (over, under))
        return None if a is None or b is None else a / b

    return value


def difference(metric: str, row: Mapping[str, Any], less: Mapping[str, Any]) -> Value:
    """The mean of `metric` in `row` minus that in `less`."""

    def value(table: Any) -> float | None:
        a, b = (table.value(metric, **at) for at in (row, less))
        return None if a is None or b is None else a - b

    return value
