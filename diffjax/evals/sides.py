"""One side of a comparison: the features of a set of images, or their statistics alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from diffjax.data.arrays import read
from diffjax.data.schema import Source
from diffjax.evals.features import Extracted, FeatureExtractor
from diffjax.evals.processes import gather, gather_moments, own_share
from diffjax.metrics.frechet import Moments, accumulate, moments

# StepTable whose covariance is taken at once: fewer spend their time merging.
CHUNK = 4096


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features by which a set of images is compared.

    Attributes:
      name: for people.
      content: digest of the images, or of the file of statistics.
      moments, spatial: of the pooled and of the spatial features; None where unknown.
      rows: the features themselves; None where only statistics are known. Its logits and spatial
        features may be None.
      label: `[N]`, where the images were drawn class by class: the classes.
      clusters: `[N]`, where they were drawn text by text: which are of one text.
      texts: `[N, E]` embeddings of the images' captions; None where they are not asked for.
    """

    name: str
    content: str
    moments: Moments | None
    spatial: Moments | None = None
    rows: Extracted | None = None
    texts: np.ndarray | None = None
    label: np.ndarray | None = None
    clusters: np.ndarray | None = None

    @property
    def count(self) -> int:
        """Images; 0 where a file of statistics does not say."""
        if self.rows is not None:
            return len(self.rows.features)
        return 0 if self.moments is None else self.moments.count


class Running:
    """The moments of rows that come in batches, in float64; memory D x D and one chunk of rows."""

    def __init__(self) -> None:
        self._waiting: list[np.ndarray] = []
        self._total: Moments | None = None

    def add(self, rows: np.ndarray) -> None:
        """Takes `rows [n, D]`."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= CHUNK:
            self._merge()

    def _merge(self) -> None:
        new = moments(np.concatenate(self._waiting))
        self._total = new if self._total is None else accumulate([self._total, new])
        self._waiting = []

    def result(self) -> Moments | None:
        """Moments of all rows so far; None where there were none."""
        if self._waiting:
            self._merge()
        return self._total


def measure(
    name: str,
    source: Source,
    extract: FeatureExtractor,
    keep_rows: bool,
    say: Callable[[int], None] = lambda done: None,
) -> FeatureSet:
    """The features of every image of `source`; several processes each see a share of them.

    Args:
      name: of the side.
      keep_rows: keep the features, which kernel distances and manifolds need; otherwise memory does
        not grow with the images.
      say: told how many images this process has seen.

    Raises:
      ValueError: from the source, or from `extract` for images that it does not take.
    """
    pooled, spatial = Running(), Running()
    kept: list[Extracted] = []
    done = 0
    for got in _batches(source, extract):
        pooled.add(got.features)
        if got.spatial is not None:
            spatial.add(got.spatial)
        # Spatial features are compared by their moments alone.
        kept += [got._replace(spatial=None)] if keep_rows else []
        done += len(got.features)
        say(done)
    rows = _joined(kept) if keep_rows else None
    first, grid = pooled.result(), spatial.result()
    widths = [0 if m is None else len(m.mean) for m in (first, grid)]
    widths = np.max(gather(np.asarray([widths])), axis=0)[0]
    return FeatureSet(
        name,
        source.info.fingerprint,
        gather_moments(first, int(widths[0])),
        gather_moments(grid, int(widths[1])) if widths[1] else None,
        rows,
    )


def _batches(source: Source, extract: FeatureExtractor) -> Iterator[Extracted]:
    """This process's share of the images, batch by batch."""
    share = own_share(len(source))
    for start in range(share.start, share.stop, extract.batch_size):
        indices = np.arange(start, min(start + extract.batch_size, share.stop))
        yield extract.pixels(list(read(source, indices, threads=4)["image"]), start=start)


def _joined(kept: list[Extracted]) -> Extracted:
    """The rows of all processes, in the source's order."""
    parts = []
    for column in range(2):
        own = [row[column] for row in kept]
        present = [x for x in own if x is not None]
        # A process without images does not know the widths.
        shape = np.asarray([[0 if not present else present[0].shape[1]]])
        width = int(np.max(gather(shape)))
        if not width:
            parts.append(None)
            continue
        mine = np.concatenate(present) if present else np.zeros((0, width), np.float32)
        parts.append(np.concatenate(gather(mine)))
    return Extracted(*parts)
