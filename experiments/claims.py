"""What a study claims: each a number, read off its results, with the band it must lie in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claim:
    """Attributes:
    label: in words.
    value: reads the number off the study's results; None where they are not there yet.
    low, high: the band.
    note: what the number is.
    """

    label: str
    value: Callable[[Any], float | None]
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
