"""The loader: a function of (seed, step) that has no state but an integer.

The global batch of step s is the examples at positions s B ... s B + B - 1 of an endless stream in
which every epoch is another permutation of the source, or of the records that it is given to go
through. A process loads the `rows` of it that its devices hold; order and augmentation are
functions of the position, so neither the number of processes nor of workers changes the global
batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import grain
import jax
import numpy as np
from absl import flags

from diffjax.data.arrays import cached, digest, read
from diffjax.data.draws import Draws
from diffjax.data.order import shuffled
from diffjax.data.schema import FLIPPED, Columns, DatasetInfo, Source
from diffjax.data.transforms import Transform, apply, describe
from diffjax.keys import check_seed

_END = 2**62  # Steps after which the stream ends: never.


class Loader:
    """Training batches of a source.

    Args:
      source: records; decoded into memory if `cache` is True, or "auto" and it is small.
      transforms: from `make_transforms`, in order.
      batch_size: examples in the global batch.
      seed: of the order and of the augmentation, see `keys.check_seed`.
      rows: of the global batch that this process holds, by default all.
      cache: True, False or "auto".
      epoch: `[M] int`, the indices of the source that an epoch goes through, some perhaps more
        than once (`oversampling.epoch_indices`); by default every one once.

    Raises:
      ValueError: no seed, an epoch that is smaller than one batch, or goes beyond the source.
    """

    def __init__(
        self,
        source: Source,
        transforms: Sequence[Transform],
        batch_size: int,
        seed: int,
        rows: Sequence[int] | np.ndarray | None = None,
        cache: bool | Literal["auto"] = "auto",
        epoch: np.ndarray | None = None,
    ):
        if epoch is not None and epoch.size and not 0 <= epoch.min() <= epoch.max() < len(source):
            raise ValueError(
                f"an epoch of indices {epoch.min()} to {epoch.max()} of {source.info.name}, which "
                f"has {len(source)} examples"
            )
        size = len(source) if epoch is None else len(epoch)
        if size < batch_size or batch_size < 1:
            raise ValueError(
                f"{source.info.name} ({source.info.split}) has {size} examples, fewer than "
                f"one batch of {batch_size}; lower train.batch_size"
                if batch_size > 0
                else f"batch_size must be at least 1, not {batch_size}"
            )
        self.source = cached(source, cache)
        self.transforms = tuple(transforms)
        self.batch_size = batch_size
        self.seed = check_seed(seed)
        self.epoch = epoch
        self.rows = _checked_rows(np.arange(batch_size) if rows is None else rows, batch_size)

    @property
    def info(self) -> DatasetInfo:
        return self.source.info

    def batch(self, step: int, rows: Sequence[int] | np.ndarray | None = None) -> Columns:
        """The `rows` (by default the loader's own) of the global batch of `step` >= 0.

        Returns:
          name -> array `[len(rows), ...]`: `image` float32 [-1, 1] after `to_float`, `label` int32
          where the source has labels. Captions end here unless a transform made them numbers.
        """
        chosen = self.rows if rows is None else _checked_rows(rows, self.batch_size)
        positions = int(step) * self.batch_size + chosen
        size = len(self.source if self.epoch is None else self.epoch)
        indices = shuffled(positions, size, self.seed)
        columns = read(self.source, indices if self.epoch is None else self.epoch[indices])
        return numeric(apply(self.transforms, columns, Draws.at(self.seed, positions)))

    def iterate(
        self, start_step: int = 0, *, prefetch: int = 2, threads: int = 1, workers: int = 0
    ) -> Batches:
        """The batches of steps `start_step`, `start_step` + 1, ...; close it when done.

        Args:
          prefetch: batches read ahead; 0 reads each when asked for.
          threads: that read ahead.
          workers: processes that read ahead, for sources that are slow to decode. They are
            spawned, so the main script needs its `__main__` guard, and each holds a copy of a
            source that is in memory.
        """
        return Batches(self, start_step, prefetch, threads, workers)

    def fingerprint(self) -> dict[str, Any]:
        """Plain JSON that is equal for two loaders exactly if their global batches are."""
        own = {} if self.epoch is None else {"epoch": digest({"epoch": self.epoch})}
        return {
            "source": self.info.fingerprint,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "transforms": describe(self.transforms),
            **own,
        }

    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every array of the global batch."""
        row = self.batch(0, rows=[0])
        return {
            name: jax.ShapeDtypeStruct((self.batch_size, *x.shape[1:]), x.dtype)
            for name, x in row.items()
        }


class Batches(Iterator[Columns]):
    """Batches in step order; `step` is the next one, and the whole state."""

    def __init__(self, loader: Loader, step: int, prefetch: int, threads: int, workers: int):
        self.step = step
        options = grain.ReadOptions(
            num_threads=threads if prefetch else 0, prefetch_buffer_size=prefetch
        )
        steps = grain.MapDataset.range(step, _END).map(loader.batch)
        data = steps.to_iter_dataset(options)
        if workers:
            # Grain's worker processes read absl flags, which a notebook or a test never parsed.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            data = data.mp_prefetch(
                grain.MultiprocessingOptions(
                    num_workers=workers, per_worker_buffer_size=max(1, prefetch)
                )
            )
        self._iterator = iter(data)

    def __next__(self) -> Columns:
        batch = next(self._iterator)
        self.step += 1
        return batch

    def close(self) -> None:
        """Stops the threads and processes that read ahead."""
        self._iterator.close()  # type: ignore[attr-defined]

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def numeric(columns: Columns) -> Columns:
    """The arrays of `columns`; strings do not go to devices, nor what a flip has chosen from.

    Raises:
      ValueError: images of several sizes.
    """
    if isinstance(columns["image"], list):
        shapes = sorted({i.shape[:2] for i in columns["image"]})
        raise ValueError(
            f"images differ in size (from {shapes[0]} to {shapes[-1]}); add center_crop_resize, "
            "or another crop, to data.transforms"
        )
    return {n: c for n, c in columns.items() if isinstance(c, np.ndarray) and n != FLIPPED}


def _checked_rows(rows: Sequence[int] | np.ndarray, batch_size: int) -> np.ndarray:
    """`rows [R] int64`, all of them rows of a batch."""
    rows = np.asarray(rows, np.int64)
    if rows.ndim != 1 or not rows.size or rows.min() < 0 or rows.max() >= batch_size:
        raise ValueError(f"rows must lie in [0, {batch_size}), not {rows.tolist()}")
    return rows
