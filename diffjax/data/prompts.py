"""Prompts of generated scenes: as many different texts as the scenes offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from diffjax.choices import unknown
from diffjax.data.factors import TEMPLATES, Scene, caption, scene_at
from diffjax.data.scene_score import said

EVERY = "every"  # template, instead of one alone


class Prompt(NamedTuple):
    """`text`, and the `scene` that it asks for, -1 where it does not say."""

    text: str
    scene: Scene


def prompts(columns: Mapping[str, np.ndarray], template: str, count: int) -> list[Prompt]:
    """Captions of the scenes `columns` (of `factors.FIELDS`), no text more often than it must be.

    Draws of one text are no independent examples, so a share over texts is as sure as there are
    texts. Where the scenes offer more than `count`, every template gives equally many, spread over
    its own; where they offer fewer, all are taken again in turn, up to `count` or the number of
    scenes.

    Args:
      template: a key of `factors.TEMPLATES`, or "every" for all of them.

    Raises:
      ValueError: an unknown template.
    """
    if template not in (EVERY, *TEMPLATES):
        raise unknown("caption template", template, (EVERY, *TEMPLATES))
    rows = range(len(columns["num_objects"]))
    scenes = [scene_at(columns, row) for row in rows]
    names = TEMPLATES if template == EVERY else (template,)
    by_template = [dict.fromkeys(_prompt(scene, name) for scene in scenes) for name in names]
    chosen: list[Prompt] = []
    for place, offered in enumerate(sorted(map(list, by_template), key=len)):
        share = (count - len(chosen)) // (len(by_template) - place)
        spread = np.linspace(0, len(offered) - 1, min(share, len(offered)))
        chosen += [offered[i] for i in np.rint(spread).astype(int)]
    again = min(count, max(len(scenes), len(chosen)))
    return [chosen[i % len(chosen)] for i in range(again)]


def _prompt(scene: Scene, template: str) -> Prompt:
    return Prompt(caption(scene, template), said(scene, template))
