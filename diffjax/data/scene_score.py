"""Score of a drawn scene against its prompt, by the factors of both."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from diffjax.data.factors import TEMPLATES, Scene, Thing

KINDS = ("read", "shape", "colour", "objects", "size", "background", "relation", "all")


def said(scene: Scene, template: str) -> Scene:
    """`scene` with -1 wherever a caption of `template` does not speak of it."""
    how = TEMPLATES[template]
    things = tuple(Thing(t.shape, t.colour, t.size if how.size else -1) for t in scene.things)
    return Scene(things, scene.relation, scene.background if how.background else -1)


def score_scene(prompt: Scene, drawn: Scene | None) -> dict[str, bool]:
    """Kind -> whether it holds, of KINDS those alone that `prompt` (by `said`) speaks of.

    read: the oracle is sure of the picture. shape, colour: as many objects as asked for, and their
    shapes, or colours, in whatever pairs. objects: every object has its shape and its colour
    (attribute binding). size, relation: of the drawn objects, each taken for that of the prompt
    that it is most like; a tie is no relation. all: everything that is said.
    """
    spoken = ["shape", "colour", "objects"]
    spoken += ["size"] * (prompt.things[0].size >= 0) + ["background"] * (prompt.background >= 0)
    spoken += ["relation"] * (prompt.relation >= 0)
    found = dict.fromkeys(["read", *spoken, "all"], False)
    if drawn is None:
        return found
    found["read"] = True
    if prompt.background >= 0:
        found["background"] = prompt.background == drawn.background
    if len(drawn.things) == len(prompt.things):
        a, b = prompt.things, drawn.things
        found["shape"] = _same([t.shape for t in a], [t.shape for t in b])
        found["colour"] = _same([t.colour for t in a], [t.colour for t in b])
        found["objects"] = _same([t.pair for t in a], [t.pair for t in b])
        views = _likeliest(prompt, drawn)
        if "size" in found:
            found["size"] = any(
                all(x.size == y.size for x, y in zip(a, view.things, strict=True)) for view in views
            )
        if "relation" in found:
            found["relation"] = all(view.relation == prompt.relation for view in views)
    found["all"] = all(found[name] for name in spoken)
    return found


def _same(a: Sequence[int], b: Sequence[int]) -> bool:
    return Counter(a) == Counter(b)


def _likeliest(prompt: Scene, drawn: Scene) -> list[Scene]:
    """`drawn` with its objects in the order in which they are most like the prompt's; both orders
    where these are equally like."""
    orders = [drawn] if len(drawn.things) == 1 else [drawn, drawn.swapped()]
    likeness = [
        sum(
            (x.shape == y.shape) + (x.colour == y.colour)
            for x, y in itertools.zip_longest(prompt.things, view.things)
        )
        for view in orders
    ]
    return [view for view, like in zip(orders, likeness, strict=True) if like == max(likeness)]
