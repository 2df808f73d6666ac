"""Text-to-image generation research in JAX.

    import diffjax

    run = diffjax.open_run("runs/digits", ema="slow")
    images = diffjax.sample(run.task.model, run.variables, 0, index, label, steps=25)
    pipeline = diffjax.open_pipeline("stable-diffusion-v1-5/stable-diffusion-v1-5")
    experiment = diffjax.train_config("configs/ddpm/digits.py", "runs/digits")

Each name is imported when it is first asked for, so that `import diffjax` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Name -> the module that it is from.
PUBLIC = {
    "open_run": "diffjax.runs",
    "TrainedRun": "diffjax.runs",
    "open_pipeline": "diffjax.pretrained.pipelines",
    "Pipeline": "diffjax.generate.pipeline",
    "DiffusionModel": "diffjax.denoisers.model",
    "sample": "diffjax.generate.sample",
    "trajectory": "diffjax.generate.sample",
    "image2image": "diffjax.generate.image2image",
    "inpaint": "diffjax.generate.inpaint",
    "make_recipe": "diffjax.diffusion.recipes",
    "load_config": "diffjax.launch.settings",
    "train_config": "diffjax.assembly.stages",
}
# Rooms that `diffjax.<room>` reaches without an import of its own.
ROOMS = ("data", "diffusion", "evals", "generate", "interop", "metrics", "models", "pretrained",
         "runs", "tasks", "train")  # fmt: skip

__all__ = ["__version__", *PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    if name in ROOMS:
        return importlib.import_module(f"diffjax.{name}")
    raise AttributeError(f"module 'diffjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC, *ROOMS])
