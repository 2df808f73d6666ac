"""Statistics of a set of images in the `.npz` files that other evaluators read and write.

pytorch-fid and edm keep `mu` and `sigma`; guided-diffusion also `mu_s` and `sigma_s`, of spatial
features, and in `arr_0` images. One file may hold all of them. We add `count` and `protocol`, which
the others pass over: what a number was measured under should travel with it.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic

from diffjax.bounded import check_regular, open_zip, parse_json
from diffjax.metrics.frechet import Moments
from diffjax.results import differing

# How many times its size a file may hold: images of flat colours compress well.
RATIO = 64.0
SUFFIX = "_s"  # of the spatial features' keys
# Of a protocol, what decides whether two sets of moments may be compared.
SAME = ("resize", "scale", "width", "features", "dequantise")


class Reference(NamedTuple):
    """Contents of a file of statistics, None where it does not hold them.

    Attributes:
      moments: of the pooled features.
      spatial: of sFID's.
      images: `[N, H, W, C] uint8`.
      protocol: how the moments were computed.
    """

    moments: Moments | None
    spatial: Moments | None
    images: np.ndarray | None
    protocol: dict[str, Any] | None


def read_reference(file: str | Path) -> Reference:
    """The statistics, images or both of an `.npz` file, read without running code.

    Raises:
      ValueError: no such file, no `.npz`, neither statistics nor images in it, or statistics that
        are none: not finite, not symmetric, of shapes that do not fit.
    """
    file = Path(file)
    check_regular(file)
    try:
        with open_zip(file, RATIO) as archive:
            names = [name for name in _KEYS if f"{name}.npy" in archive.namelist()]
            for name in names:
                _check_size(archive, f"{name}.npy")
        with np.load(file, allow_pickle=False) as opened:
            held = {name: opened[name] for name in names}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} cannot be read as .npz: {error}") from error
    images = held.get("arr_0")
    if images is not None and (images.ndim != 4 or images.dtype != np.uint8):
        raise ValueError(
            f"{file}: arr_0 is {images.dtype} {list(images.shape)}, no images [N, H, W, C] in uint8"
        )
    if images is None and "mu" not in held:
        raise ValueError(f"{file} holds neither mu and sigma nor images in arr_0")
    said = str(held["protocol"]).encode() if "protocol" in held else None
    protocol = None if said is None else parse_json(said, f"{file}: protocol")
    count = _count(file, held.get("count", np.zeros((), int)))
    pooled, spatial = (_moments(file, held, suffix, count) for suffix in ("", SUFFIX))
    return Reference(pooled, spatial, images, protocol)


def _check_size(archive: zipfile.ZipFile, name: str) -> None:
    """Refuses an array that claims to be larger than its member, for which room would be made."""
    with archive.open(name) as opened:
        read = {(1, 0): read_array_header_1_0}.get(read_magic(opened), read_array_header_2_0)
        shape, _, dtype = read(opened)
        rest = archive.getinfo(name).file_size - opened.tell()
    # Objects are refused as such.
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize != rest:
        raise ValueError(f"{name} claims {list(shape)} {dtype} in {rest} bytes")


def _count(file: Path, held: np.ndarray) -> int:
    if held.shape != () or held.dtype.kind not in "iu" or held < 0:
        raise ValueError(f"{file}: count is {held.dtype} {list(held.shape)}, no number of images")
    return int(held)


def check_protocol(name: str, reference: Reference, how: Mapping[str, Any]) -> None:
    """Refuses statistics called `name` that say they were measured otherwise than `how`.

    Raises:
      ValueError: what differs.
    """
    if reference.protocol is None or not how:
        return
    theirs = {k: reference.protocol.get(k) for k in SAME}
    differ = differing([theirs, {k: how.get(k) for k in SAME}])
    if differ:
        said = ", ".join(f"{k} {a!r} there, {b!r} here" for k, (a, b) in differ.items())
        raise ValueError(f"{name} was measured under another protocol: {said}")


_KEYS = ("mu", "sigma", "mu_s", "sigma_s", "count", "protocol", "arr_0")


def _moments(file: Path, held: Mapping[str, Any], suffix: str, count: int) -> Moments | None:
    names = (f"mu{suffix}", f"sigma{suffix}")
    if not any(name in held for name in names):
        return None
    if not all(name in held for name in names):
        raise ValueError(f"{file} holds one of {names[0]} and {names[1]} without the other")
    if any(held[name].dtype.kind not in "fiu" for name in names):
        raise ValueError(f"{file}: {names[0]} or {names[1]} holds no numbers")
    mean, cov = (np.asarray(held[name], np.float64) for name in names)
    if mean.ndim != 1 or cov.shape != (len(mean), len(mean)):
        raise ValueError(f"{file}: {names[0]} {list(mean.shape)}, {names[1]} {list(cov.shape)}")
    if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise ValueError(f"{file}: {names[0]} or {names[1]} is not finite")
    if not np.allclose(cov, cov.T, rtol=1e-3, atol=1e-6 * max(float(np.abs(cov).max()), 1e-300)):
        raise ValueError(f"{file}: {names[1]} is not symmetric, so it is no covariance")
    return Moments(count, mean, cov)


def write_reference(
    file: str | Path,
    moments: Moments,
    spatial: Moments | None = None,
    images: np.ndarray | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> None:
    """Writes what `read_reference` and the other evaluators read; see `Reference`."""
    held: dict[str, Any] = {"mu": moments.mean, "sigma": moments.cov, "count": moments.count}
    if spatial is not None:
        held |= {"mu_s": spatial.mean, "sigma_s": spatial.cov}
    if images is not None:
        held["arr_0"] = images
    if protocol is not None:
        held["protocol"] = json.dumps(dict(protocol))
    with open(file, "wb") as opened:
        np.savez(opened, **held)
