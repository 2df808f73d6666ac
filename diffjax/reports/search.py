"""Results of a search, as one page with its pictures inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffjax.pretrained.search_index import Collection, Index
from diffjax.reports import page

THUMBNAIL = 200  # pixels a side on the page; twice that on dense screens
_SMALL = 64  # images up to here are shown pixel by pixel


@dataclass(frozen=True)
class Query:
    """Attributes:
    name: the text, or the image's file.
    pixels: of the image `[H, W, 3] uint8`; None for a text.
    embedding: a unit row `[E]`.
    """

    name: str
    pixels: np.ndarray | None
    embedding: np.ndarray


@dataclass(frozen=True)
class Ranking:
    """Attributes:
    query: what was looked for.
    rows: of the index, the nearest first.
    scores: their cosines.
    median: cosine of all images in the collection, to judge the scores by.
    """

    query: Query
    rows: np.ndarray
    scores: np.ndarray
    median: float


def best(queries: Sequence[Query], found: Index, top: int) -> list[Ranking]:
    """The `top` images of each query by cosine; equal ones in the order of the collection."""
    results = []
    for query in queries:
        scores = found.embeddings @ query.embedding
        rows = np.argsort(-scores, kind="stable")[:top]
        results.append(Ranking(query, rows, scores[rows], float(np.median(scores))))
    return results


def write_page(
    out: Path, model: str, images: Collection, found: Index, results: Sequence[Ranking]
) -> Path:
    """Writes the page of `results` to `out`."""
    known = len(found.embeddings) - found.encoded
    facts = [
        ("images", f"{len(found.embeddings):,}", images.name),
        ("encoded now", f"{found.encoded:,}", "the others were known before" * bool(known)),
        ("skipped", f"{len(found.skipped):,}", "could not be read" if found.skipped else ""),
        ("embedding", f"{found.embeddings.shape[1]:,}", "numbers an image; scores are cosines"),
    ]
    cards = [
        {"label": label, "value": value, "note": note, "state": "", "group": "", "error": ""}
        for label, value, note in facts
    ]
    return page.render(
        "search.html",
        out,
        title="Image search",
        model=model,
        cards=cards,
        results=[_section(images, found, result) for result in results],
        skipped=found.skipped,
    )


def _section(images: Collection, found: Index, result: Ranking) -> dict[str, Any]:
    hits = []
    span = max(float(result.scores[0]) - result.median, 1e-6)
    for row, score in zip(result.rows, result.scores, strict=True):
        place = int(found.places[row])
        fill = 100 * min(max((float(score) - result.median) / span, 0.0), 1.0)
        picture = thumbnail(images.pixels(place))
        hits.append(
            {"name": images.names[place], "score": f"{score:.3f}", "fill": f"{fill:.0f}", **picture}
        )
    query = result.query
    shown = None if query.pixels is None else thumbnail(query.pixels)
    return {"name": query.name, "picture": shown, "hits": hits, "median": f"{result.median:.3f}"}


def thumbnail(pixels: np.ndarray) -> dict[str, Any]:
    """`[H, W, 3] uint8` as data in the page: `src`, and whether it is shown by the `pixel`."""
    image = Image.fromarray(pixels)
    small = max(image.size) <= _SMALL
    out = io.BytesIO()
    if small:
        image.save(out, format="png", optimize=True)
    else:
        image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL), Image.Resampling.LANCZOS)
        image.save(out, format="jpeg", quality=85)
    kind = "png" if small else "jpeg"
    data = base64.b64encode(out.getvalue()).decode()
    return {"src": f"data:image/{kind};base64,{data}", "pixel": small}
