"""The words of the generated scenes: what can be in one, how it is stored, how it is said.

A factor is an index into its tuple of names below; -1 is "none", or in a prompt "unsaid".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffjax.choices import unknown

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart")
SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")
INVERSE = (1, 0, 3, 2)  # A is RELATIONS[r] B exactly if B is RELATIONS[INVERSE[r]] A.
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "cyan")
BACKGROUNDS = ("white", "grey", "black")

# sRGB 0..255, `[colours, 3]` and `[backgrounds, 3]`. No colour is near a background, another
# colour, or half-way from another colour to a background: there a ghost would look like an object.
COLOUR_RGB = np.array(
    [
        (220, 25, 25),
        (25, 150, 45),
        (35, 65, 225),
        (250, 220, 25),
        (250, 130, 10),
        (125, 30, 165),
        (250, 120, 200),
        (30, 200, 225),
    ],
    np.uint8,
)
BACKGROUND_RGB = np.array([(255, 255, 255), (112, 112, 112), (0, 0, 0)], np.uint8)

PAIR_NAMES = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)


# Field of a record -> its words.
WORDS: Mapping[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "relation": RELATIONS,
    "background": BACKGROUNDS,
}


@dataclass(frozen=True)
class Thing:
    """One object: indices into SHAPES, COLOURS, SIZES; -1 where a prompt does not say."""

    shape: int = -1
    colour: int = -1
    size: int = -1

    @property
    def pair(self) -> int:
        """Index into PAIR_NAMES."""
        return self.shape * len(COLOURS) + self.colour


@dataclass(frozen=True)
class Scene:
    """One or two things; `things[0]` is RELATIONS[relation] `things[1]`, -1 where it is alone."""

    things: tuple[Thing, ...]
    relation: int = -1
    background: int = -1

    def swapped(self) -> Scene:
        """The same scene told from the other thing's side."""
        if self.relation < 0:
            return self
        return Scene(self.things[::-1], INVERSE[self.relation], self.background)

    def canonical(self) -> Scene:
        """The same scene, the left or upper thing first: equal pictures are equal scenes."""
        return self.swapped() if RELATIONS[self.relation] in ("right of", "below") else self


@dataclass(frozen=True)
class Template:
    """A template of captions: how much one says, after which words."""

    start: str = ""
    size: bool = False
    background: bool = False


TEMPLATES: Mapping[str, Template] = {
    "short": Template(),
    "photo": Template("a photo of "),
    "size": Template(size=True),
    "background": Template(background=True),
    "full": Template("a photo of ", size=True, background=True),
}


def caption(scene: Scene, template: str = "full") -> str:
    """The caption of `scene` by `template` (of TEMPLATES): "a small red circle above a blue star".

    What a scene leaves at -1 is left out, and a thing without a shape is "a red object": so
    prompts for one factor are captions of scenes that say no other.

    Raises:
      ValueError: an unknown template.
    """
    if template not in TEMPLATES:
        raise unknown("caption template", template, TEMPLATES)
    how = TEMPLATES[template]
    words = [_phrase(thing, how.size) for thing in scene.things]
    if len(words) == 2:
        words.insert(1, RELATIONS[scene.relation] if scene.relation >= 0 else "and")
    if how.background and scene.background >= 0:
        words.append(f"on {_article(BACKGROUNDS[scene.background])} background")
    return how.start + " ".join(words)


def captions(scene: Scene) -> list[str]:
    """Every template's caption, of two things in either order, none twice."""
    orders = (scene,) if len(scene.things) == 1 else (scene, scene.swapped())
    return list(dict.fromkeys(caption(s, template) for template in TEMPLATES for s in orders))


def _phrase(thing: Thing, with_size: bool) -> str:
    words = [SIZES[thing.size]] if with_size and thing.size >= 0 else []
    words += [COLOURS[thing.colour]] if thing.colour >= 0 else []
    return _article(" ".join([*words, SHAPES[thing.shape] if thing.shape >= 0 else "object"]))


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def held_out_pairs() -> np.ndarray:
    """`[shapes] int64`, the pairs (indices into PAIR_NAMES) that training never shows.

    An eighth of all, one per shape, no colour twice: shape s without colour 3 s mod 8. So every
    shape and every colour is still learnt, in other pairs.
    """
    shape = np.arange(len(SHAPES))
    return shape * len(COLOURS) + 3 * shape % len(COLOURS)


def shown_pairs() -> np.ndarray:
    """The pairs that training shows, `[shapes * (colours - 1)] int64`."""
    return np.setdiff1d(np.arange(len(PAIR_NAMES)), held_out_pairs())


def scene_at(columns: Mapping[str, Any], row: int | None = None) -> Scene:
    """The scene of a record, or of row `row` of columns `[N, ...]`."""
    c = {k: np.asarray(columns[k] if row is None else columns[k][row]) for k in FIELDS}
    things = tuple(
        Thing(int(c["shape"][j]), int(c["colour"][j]), int(c["size"][j]))
        for j in range(int(c["num_objects"]))
    )
    return Scene(things, int(c["relation"]), int(c["background"]))


# Field of a record -> its shape; all int32, -1 where there is none.
FIELDS: Mapping[str, tuple[int, ...]] = {
    "num_objects": (),
    "shape": (2,),
    "colour": (2,),
    "size": (2,),
    "relation": (),
    "background": (),
}
