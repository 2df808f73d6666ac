"""Formats of image files: those that this Pillow opens by itself, but for those listed here."""

from __future__ import annotations

import os
from functools import cache

from PIL import Image

# Formats that are never opened, whatever the name of the file.
REFUSED = {
    "EPS": "a program, which Ghostscript would run",
    "WMF": "a program of drawing commands",
    "BUFR": "no pixels that Pillow reads",
    "GRIB": "no pixels that Pillow reads",
    "HDF5": "no pixels that Pillow reads",
    "MPEG": "a film",
    "IPTC": "a wrapper of newswires",
    "FITS": "measurements, which say no white",
    "MCIDAS": "measurements, which say no white",
    "SPIDER": "measurements, which say no white",
}


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, the usual first."""
    Image.preinit()
    Image.init()
    return tuple(name for name in Image.ID if name not in REFUSED)


@cache
def suffixes() -> frozenset[str]:
    """The suffixes of files in these formats, lower case with their dot.

    Formats of plugins count (`.heic` of pillow-heif) where they are registered before.
    """
    # A JPEG of several pictures is opened by the reader of JPEG.
    opened = {*formats(), "MPO"}
    return frozenset(s for s, name in Image.registered_extensions().items() if name in opened)


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its suffix, in upper or lower case."""
    return os.path.splitext(name)[1].lower() in suffixes()


def usual_suffixes() -> str:
    """A few of the suffixes and the number of the others, for messages."""
    usual = (".png", ".jpg", ".webp", ".tiff")
    return f"{', '.join(usual)} and {len(suffixes()) - len(usual)} other suffixes"
