"""Costs of reading hostile files: `python -m tests.hostile`.

Makes each file of `files.HOSTILE`, reads it in a process of its own, and prints its size, the
peak memory above that of a process that has read nothing, the seconds, and the error: the table of
docs/security.md.
"""

import tempfile
from pathlib import Path

from diffjax.bounded import MB

from .cost import measure
from .files import HOSTILE


def main() -> None:
    """Prints the table."""
    print("| file | size | peak memory | seconds | error |\n|---|---|---|---|---|")
    for name in HOSTILE:
        with tempfile.TemporaryDirectory() as folder:
            cost = measure(name, Path(folder))
            said = cost.error.replace(f"{folder}/", "").replace("|", "\\|")
        said = said if len(said) <= 110 else f"{said[:110]}..."
        print(
            f"| {name} | {cost.size / MB:.2f} MB | {cost.peak / MB:.0f} MB | {cost.seconds:.2f} | "
            f"`{said}` |",
            flush=True,
        )


if __name__ == "__main__":
    main()
