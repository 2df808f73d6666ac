"""The command `diffjax`: every main of `experiments/` by its name, `diffjax train --config=...`.

`python -m experiments.train` is the same. The mains are found in the folder, and none is imported
but the one that is run.
"""

from __future__ import annotations

import ast
import difflib
import runpy
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import diffjax

MAINS = "experiments"
_GUARD = 'if __name__ == "__main__":'


def commands(folder: Path) -> dict[str, str]:
    """The mains in `folder` by name, each with the first words of its docstring."""
    found = {}
    for file in sorted(folder.glob("[!_]*.py")):
        text = file.read_text(encoding="utf-8")
        if _GUARD in text:
            first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
            # What follows is the command without this one: "Train: `python -m ...`".
            found[file.stem] = first.partition(": `")[0].rstrip(".:")
    return found


def _folder() -> Path:
    """The folder of the mains, beside this package.

    Raises:
      ValueError: another package of that name would be imported in their place.
    """
    folder = Path(diffjax.__file__).resolve().parent.parent / MAINS
    spec = find_spec(MAINS)
    found = (spec.submodule_search_locations if spec else None) or ()
    places = [Path(place).resolve() for place in found]
    if folder not in places:
        there = f"{places[0]} is another package" if places else "there is no package"
        raise ValueError(
            f"{there} of the name {MAINS}, which diffjax brings: run it in another folder or "
            "environment"
        )
    return folder


def _help(known: dict[str, str]) -> str:
    width = max(map(len, known), default=0)
    lines = [f"  {name:{width}}  {said}" for name, said in known.items()]
    head = "usage: diffjax COMMAND [FLAGS]   (diffjax COMMAND --help: its flags)"
    return "\n".join([head, "", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name (by default those of this process); its exit code,
    where it returns."""
    name, *rest = [*(sys.argv[1:] if argv is None else argv)] or [""]
    try:
        known = commands(_folder())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if name in ("-h", "--help", "help"):
        print(_help(known))
        return 0
    if name == "--version":
        print(f"diffjax {diffjax.__version__}")
        return 0
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        what = f"unknown command {name!r}; {hint}known" if name else "give a command"
        print(f"error: {what}: {', '.join(known)} (diffjax --help)", file=sys.stderr)
        return 2
    sys.argv = [f"diffjax {name}", *rest]
    runpy.run_module(f"{MAINS}.{name}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
