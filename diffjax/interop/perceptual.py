"""LPIPS: torchvision's VGG16 and the linear heads of Zhang et al. 2018, as one frozen tower."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from diffjax.interop.files import read_tensors, weights_file
from diffjax.interop.parts import shapes_of, spec
from diffjax.interop.sizes import blamed_on
from diffjax.interop.tables import Row, layer, to_ours
from diffjax.models.perceptual import STAGES, VGG16, Perceptual

# torchvision's network goes on to classify, which nobody asks of it here.
_CLASSIFIER = re.compile(r"classifier\.\d+\.(weight|bias)$")


def load_lpips(vgg: str | Path, heads: str | Path) -> dict[str, Any]:
    """The parameters of `Perceptual(VGG16())`, numpy arrays in float32.

    Args:
      vgg: torchvision's `vgg16`: `features.0.weight`, ...; its classifier is left out.
      heads: `lin0.model.1.weight`, ..., as the original code's `weights/v0.1/vgg.pth` has them.

    Raises:
      ValueError: a file cannot be read, or holds other tensors; one line.
    """
    shapes = shapes_of(Perceptual(VGG16()), spec(1, 16, 16, 3), spec(1, 16, 16, 3))
    own = {path: shape for path, shape in shapes.items() if path.startswith("head_")}
    rest = {path: shape for path, shape in shapes.items() if path not in own}
    filled = _read(vgg, rest, _vgg_table()) | _read(heads, own, _head_table())
    return unflatten_dict(filled, sep="/")


def _read(file: str | Path, shapes: Mapping[str, Any], table: list[Row]) -> dict[str, np.ndarray]:
    path = weights_file(Path(file))
    tensors = {k: v for k, v in read_tensors(path).items() if not _CLASSIFIER.match(k)}
    with blamed_on(path):
        return to_ours(tensors, shapes, table, "the file's")


def _vgg_table() -> list[Row]:
    """Convolutions are numbered with the ReLU behind each, and the pool behind each stage."""
    rows, index = [], 0
    for stage, (count, _) in enumerate(STAGES):
        for i in range(count):
            rows += layer(f"backbone/conv_{stage}_{i}", f"features.{index}", "conv")
            index += 2
        index += 1
    return rows


def _head_table() -> list[Row]:
    """A head is a 1x1 convolution to one channel, behind a dropout."""
    return [Row(f"head_{i}", (f"lin{i}.model.1.weight",), "channels") for i in range(len(STAGES))]
