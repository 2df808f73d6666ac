"""HTML pages that need nothing but themselves: templates, and pictures as data in the page."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from diffjax.sweeps.table import number, with_error
from diffjax.train.writer import replace_file

_WIDEST = 1400  # pixels; larger pictures are shown reduced
_SMALL = 480  # pixels; smaller ones are enlarged by a whole factor, unblurred


def render(template: str, path: str | os.PathLike[str], **content: Any) -> Path:
    """Writes `templates/<template>` filled with `content` to `path`, whole or not at all."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "with_error": with_error, "json": json.dumps}
    text = environment.get_template(template).render(**content)
    path = Path(path)
    replace_file(path, text.encode())
    return path


def svg(text: str) -> Markup:
    """A plot of `diffjax.reports.figures`, which the template must not escape."""
    return Markup(text)


def picture(path: str | os.PathLike[str], largest: int = _SMALL) -> dict[str, Any]:
    """A PNG file as data: `src`, native `width`, `height`, the width to show, and `pixel`.

    Small pictures are shown `largest` pixels wide at most, enlarged by a whole factor.
    """
    data = Path(path).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        reduced = max(width, height) > _WIDEST
        if reduced:
            image = image.convert("RGB")
            image.thumbnail((_WIDEST, _WIDEST), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            image.save(out, format="png", optimize=True)
            data = out.getvalue()
    # A strip of pictures may take the page's whole width.
    room = 2 * largest if width > 2 * height else largest
    factor = max(1, room // max(width, height))
    return {
        "src": "data:image/png;base64," + base64.b64encode(data).decode(),
        "width": width,
        "height": height,
        "shown": min(width * factor, _WIDEST),
        "pixel": width < _SMALL,
        "reduced": reduced,
    }
