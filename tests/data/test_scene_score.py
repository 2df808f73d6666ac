"""What a verdict says of scenes that are as asked for, and of each way to be wrong."""

from dataclasses import replace

import pytest

from diffjax.data.factors import TEMPLATES, Scene, Thing
from diffjax.data.scene_score import said, score_scene

RED_CIRCLE, BLUE_STAR = Thing(0, 0, 0), Thing(3, 2, 1)
ONE = Scene((RED_CIRCLE,), -1, 1)
TWO = Scene((RED_CIRCLE, BLUE_STAR), 0, 2)


def wrong(prompt, drawn, template="full"):
    found = score_scene(said(prompt, template), drawn)
    return {name for name, right in found.items() if not right}


@pytest.mark.parametrize("prompt", [ONE, TWO])
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_scene_is_what_it_is_whoever_tells_it(prompt, template):
    for scene in {prompt, prompt.swapped(), prompt.canonical()}:
        assert not wrong(scene, prompt.canonical(), template)


def test_only_what_is_said_is_judged():
    assert set(score_scene(said(ONE, "short"), None)) == {
        "read",
        "shape",
        "colour",
        "objects",
        "all",
    }
    assert "relation" in score_scene(said(TWO, "short"), None)
    assert {"size", "background"} <= set(score_scene(said(ONE, "full"), None))
    other = Scene((replace(RED_CIRCLE, size=1),), -1, 0)
    assert not wrong(ONE, other, "photo") and wrong(ONE, other) == {"size", "background", "all"}


def test_an_unreadable_picture_is_wrong_in_all():
    found = score_scene(said(TWO, "full"), None)
    assert not any(found.values())


def test_each_mistake_is_named():
    blue_circle, red_star = Thing(0, 2, 0), Thing(3, 0, 1)
    cases = {
        Scene((Thing(1, 0, 0), BLUE_STAR), 0, 2): {"shape", "objects", "all"},
        Scene((Thing(0, 4, 0), BLUE_STAR), 0, 2): {"colour", "objects", "all"},
        Scene((blue_circle, red_star), 0, 2): {"objects", "relation", "all"},
        Scene((RED_CIRCLE, BLUE_STAR), 2, 2): {"relation", "all"},
        Scene((BLUE_STAR, RED_CIRCLE), 0, 2): {"relation", "all"},
        Scene((Thing(0, 0, 1), BLUE_STAR), 0, 2): {"size", "all"},
        Scene((RED_CIRCLE, BLUE_STAR), 0, 0): {"background", "all"},
        ONE: {"shape", "colour", "objects", "size", "relation", "background", "all"},
    }
    for drawn, mistakes in cases.items():
        assert wrong(TWO, drawn) == mistakes, drawn


def test_swapped_colours_are_a_tie_that_is_no_relation():
    """A blue circle left of a red star, for a red circle left of a blue star: its shapes say left,
    its colours right."""
    drawn = Scene((Thing(0, 2, 0), Thing(3, 0, 1)), 0, 2)
    assert {"objects", "relation"} <= wrong(TWO, drawn, "short")
    almost = Scene((RED_CIRCLE, Thing(4, 2, 1)), 0, 2)
    assert wrong(TWO, almost, "short") == {"shape", "objects", "all"}
