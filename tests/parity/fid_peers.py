"""pytorch-fid and torch-fidelity, where they are installed:

    pip install --no-deps pytorch-fid torch-fidelity torchvision==0.28.0

They are no part of '.[parity]': torchvision's wheels fit one build of torch, and where they do not
its operators are missing, which breaks others that import it. FID needs none of these operators.
"""

from __future__ import annotations

import contextlib
import importlib.util

import pytest


def _without_operators():
    """Lets torchvision be imported by a torch that its binaries do not fit."""
    import torch

    if not hasattr(_without_operators, "library"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            with contextlib.suppress(RuntimeError):
                library.define(f"{name}{arguments}")
        _without_operators.library = library  # type: ignore[attr-defined]


def peer(name):
    """The module, or a skip that says how to install it."""
    for needed in (name.partition(".")[0], "torchvision"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: see tests/parity/fid_peers.py")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        _without_operators()
    return importlib.import_module(name)
