"""Config section `perceptual`: the frozen network in whose layers images are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax

from diffjax.choices import construct
from diffjax.fingerprints import to_host
from diffjax.interop.perceptual import load_lpips
from diffjax.models.perceptual import VGG16, Perceptual
from diffjax.pretrained.init_from import recorded
from diffjax.pretrained.reference import Reference
from diffjax.ranges import Dtype
from diffjax.train.init_from import Collections, InitFrom

TOWER = "perceptual"


@dataclass(frozen=True)
class PerceptualConfig(Reference):
    """Config section `perceptual`: the run of a classifier (see `Reference`), or LPIPS.

    Attributes:
      vgg, heads: files of LPIPS: torchvision's `vgg16` and the linear heads
        (`lpips/weights/v0.1/vgg.pth` of the original code), .pth or .safetensors.
      dtype: of the tower's arithmetic, of LPIPS.
    """

    vgg: str | None = None
    heads: str | None = None
    dtype: Dtype = "float32"
    section: ClassVar[str] = "perceptual"
    released: ClassVar[tuple[str, ...]] = ("vgg",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.vgg is None) != (self.heads is None):
            raise ValueError("perceptual needs both of vgg and heads, or neither")


def make_perceptual(
    section: Mapping[str, Any] | None, workdir: Path
) -> tuple[Perceptual, InitFrom] | None:
    """The network of the section, and what fills it with its weights; None without a section.

    Args:
      workdir: of the run that it is frozen in.

    Raises:
      ValueError: at once, a wrong section, or a run that is no classifier's; when the weights are
        read, whatever is wrong with them, or weights that have changed since the run began.
    """
    if not section:
        return None
    choices: PerceptualConfig = construct(PerceptualConfig, "perceptual", section)
    if choices.vgg is not None:
        network = Perceptual(VGG16(choices.dtype))
        origin = f"{choices.vgg} and {choices.heads}"
        read: Callable[[], Any] = lambda: load_lpips(str(choices.vgg), str(choices.heads))  # noqa: E731
    else:
        run = choices.open()
        if not hasattr(run.network, "maps"):
            raise ValueError(f"perceptual: the network of {run.workdir} has no maps")
        network, origin = Perceptual(run.network, heads=False), str(run.workdir)
        read = lambda: {"backbone": jax.tree.map(to_host, run.variables.params)}  # noqa: E731

    def load() -> Collections:
        tower = read()
        recorded(workdir / f"{TOWER}.json", TOWER, {"origin": origin}, tower)
        return {"params": {TOWER: tower}}

    return network, InitFrom(load, origin, (TOWER,))
