"""Errors as one line of a terminal."""

from __future__ import annotations

# Characters of an error that are shown: a file may hold names and values of any length.
LONGEST = 2000


def one_line(error: object, longest: int = LONGEST) -> str:
    """An error as one line, whatever a file that it quotes holds: blanks become one space, and
    control characters (by which a terminal can be steered) their escapes."""
    said = " ".join(str(error)[: 4 * longest].split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)
    return shown if len(shown) <= longest else f"{shown[:longest]}..."
