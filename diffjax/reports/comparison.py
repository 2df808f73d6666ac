"""Comparisons of sets of images, as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from diffjax.results import Result


def comparison_lines(numbers: Sequence[Sequence[Result]], samples: Sequence[str]) -> Iterable[str]:
    """A line for each number of each of the samples; then, of several, their mean and least."""
    for name, scalars in zip(samples, numbers, strict=True):
        for s in scalars:
            bar = "" if s.std is None else f" ± {s.std:.4g}"
            label = f"{name}  " if len(samples) > 1 else ""
            yield f"{label}{s.name:16} {s.value:.6g}{bar}  [{s.protocol['hash']}]"
    if len(samples) > 1:
        for i, s in enumerate(numbers[0]):
            each = np.asarray([scalars[i].value for scalars in numbers])
            yield (
                f"{len(samples)} draws  {s.name:16} mean {each.mean():.6g} ± "
                f"{each.std(ddof=1):.4g}, least {each.min():.6g}"
            )
    said = {s.protocol["hash"]: s.protocol for s in numbers[0]}
    for key, how in said.items():
        facts = ", ".join(f"{k} {v}" for k, v in how.items() if k != "hash")
        yield f"[{key}] {facts}"
