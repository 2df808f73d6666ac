"""The rooms and who imports whom, as a picture: read off the imports, never drawn by hand."""

from __future__ import annotations

from collections.abc import Mapping

GROUND = "ground"


def room_of(module: str) -> str:
    """`diffjax.train.step` -> "train"; the files of diffjax itself are the ground."""
    first, *rest = module.split(".")
    if first != "diffjax":
        return first
    return rest[0] if len(rest) > 1 else GROUND


def room_graph(modules: Mapping[str, set[str]], packages: set[str]) -> dict[str, set[str]]:
    """Room -> the other rooms that any of its modules imports.

    Args:
      modules: module -> modules that it imports.
      packages: the modules that are packages, whose own room they are.
    """
    room = {m: room_of(f"{m}.__init__" if m in packages else m) for m in modules}
    edges: dict[str, set[str]] = {name: set() for name in sorted(set(room.values()))}
    for module, imported in modules.items():
        edges[room[module]] |= {room[other] for other in imported} - {room[module]}
    return edges


def reduced(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """`edges` without those that a longer way says already; of a graph without circles."""
    return {
        room: {
            other
            for other in nexts
            if not any(other in below(edges, between) for between in nexts - {other})
        }
        for room, nexts in edges.items()
    }


def below(edges: Mapping[str, set[str]], start: str) -> set[str]:
    """The rooms that `start` imports, directly or through others."""
    found, waiting = set(), list(edges[start])
    while waiting:
        room = waiting.pop()
        if room not in found:
            found.add(room)
            waiting += edges[room]
    return found


def mermaid(edges: Mapping[str, set[str]]) -> str:
    """The picture, as Mermaid draws it: an arrow from who imports to what is imported."""
    lines = [f"    {room} --> {other}" for room in edges for other in sorted(edges[room])]
    alone = [f"    {room}" for room in edges if not edges[room]]
    return "\n".join(["graph TD", *alone, *lines])
