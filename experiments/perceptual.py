"""Config section `perceptual`: the frozen network in whose layers images are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from diffjax.choices import LINEN, as_section, build, construct
from diffjax.fingerprints import to_host
from diffjax.interop.perceptual import load_lpips
from diffjax.models import MODELS
from diffjax.models.perceptual import VGG16, Perceptual
from diffjax.runs.config import plain, read_config
from diffjax.train.start import Given, Start
from experiments.settings import load_config, run_name
from experiments.start import recorded

TOWER = "perceptual"


@dataclass(frozen=True)
class PerceptualChoices:
    """Attributes:
    config: a classifier's config file; its run lies beside this one's, and is trained first.
    run: in its place, the workdir of a classifier that is trained.
    ema: which average of its weights; None for the weights themselves.
    overrides: `a.b=value` changes of its config.
    vgg, heads: instead of it, files of LPIPS: torchvision's `vgg16` and the linear heads
      (`lpips/weights/v0.1/vgg.pth` of the original code), .pth or .safetensors.
    dtype: of the tower's arithmetic, of LPIPS.
    """

    config: str | None = None
    run: str | None = None
    ema: str | None = None
    overrides: tuple[str, ...] = ()
    vgg: str | None = None
    heads: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        given = [self.config is not None, self.run is not None, self.vgg is not None]
        if sum(given) != 1 or (self.vgg is None) != (self.heads is None):
            raise ValueError(
                "perceptual needs config (a classifier) or run (its workdir), or both of vgg and "
                "heads"
            )


def make_perceptual(
    section: Mapping[str, Any] | None,
    workdir: Path,
    num_classes: int,
    open_run: Callable[[Path], Any],
) -> tuple[Perceptual, Start] | None:
    """The network of the section, and what fills it with its weights; None without a section.

    Args:
      workdir: of the run that it is frozen in.
      num_classes: of the data.
      open_run: the assembly of a run on disk.

    Raises:
      ValueError: at once, a wrong section; when the weights are read, whatever is wrong with them,
        or weights that have changed since the run began.
    """
    if not section:
        return None
    choices: PerceptualChoices = construct(PerceptualChoices, "perceptual", section)
    if choices.vgg is not None:
        network = Perceptual(VGG16(choices.dtype))
        origin = f"{choices.vgg} and {choices.heads}"
        read: Callable[[], Any] = lambda: load_lpips(str(choices.vgg), str(choices.heads))  # noqa: E731
    else:
        if choices.config is not None:
            run = workdir.parent / run_name(choices.config)
            model = plain(load_config(choices.config, choices.overrides).model)
        else:
            run = Path(str(choices.run))
            model = read_config(run).get("model", {})
        model = as_section(f"perceptual: the model of {choices.config or run}", model)
        backbone: Any = build(MODELS, "model", {"num_classes": num_classes, **model}, LINEN)
        if not hasattr(backbone, "maps"):
            raise ValueError(f"perceptual: the network of {choices.config or run} has no maps")
        network = Perceptual(backbone, heads=False)
        origin = str(run)
        read = lambda: _of_run(open_run(run), choices.ema)  # noqa: E731

    def load() -> Given:
        tower = read()
        recorded(workdir / f"{TOWER}.json", TOWER, {"origin": origin}, tower)
        return {"params": {TOWER: tower}}

    return network, Start(load, origin, (TOWER,))


def _of_run(classifier: Any, ema: str | None) -> Any:
    _, state, frozen = classifier.trained()
    return {"backbone": jax.tree.map(to_host, state.variables(frozen, ema).params)}
