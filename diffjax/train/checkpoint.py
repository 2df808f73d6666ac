"""Checkpoints: state, config and position of the data as one atomic step (Orbax).

A step's folder appears by a rename, so a save that is cut off, by a kill or a full disk, leaves the
steps before it as they were.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import args as ocp_args
from orbax.checkpoint import checkpoint_managers as policies

from diffjax.train.state import TrainState


class SaveError(RuntimeError):
    """A checkpoint could not be written; the steps before it are intact."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: where they lie; made when missing.
      keep: latest steps kept.
      keep_every: steps divisible by it are kept for good, or None.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2, keep_every: int | None = None):
        self.folder = Path(folder).absolute()
        rules: list[Any] = [policies.LatestN(keep)]
        if keep_every:
            rules.append(policies.EveryNSteps(keep_every))
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                cleanup_tmp_directories=True,
                preservation_policy=policies.AnyPreservationPolicy(rules),
            ),
        )

    def steps(self) -> list[int]:
        """Finished steps, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, meta: Mapping[str, Any]) -> None:
        """Start an asynchronous save; the error of the save before it, if any, is raised here.

        Raises:
          SaveError: the disk is full, or the folder cannot be written.
        """
        self.wait()
        try:
            self._manager.save(
                step,
                args=ocp_args.Composite(
                    state=ocp_args.StandardSave(state), meta=ocp_args.JsonSave(dict(meta))
                ),
                force=True,
            )
        except Exception as error:
            raise self.failed("save a checkpoint", error) from error

    def wait(self) -> None:
        """Until the save under way is on disk.

        Raises:
          SaveError: it could not be written.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self.failed("save a checkpoint", error) from error

    def restore(self, like: TrainState) -> tuple[TrainState, Mapping[str, Any]] | None:
        """The latest readable step, onto the shapes and shardings of `like`; None when there is no
        checkpoint. A step that cannot be read is moved to `<folder>/unreadable`, and the one before
        it is used, which is said in the log.

        Raises:
          ValueError: there are checkpoints, but none can be read.
        """
        broken: list[str] = []
        for step in reversed(self.steps()):
            try:
                restored = self.read(step, like)
            except Exception as error:
                reason = str(error).strip().splitlines()[0][:200] if str(error) else repr(error)
                broken.append(f"{step} ({type(error).__name__}: {reason})")
                continue
            for name in broken:
                bad = int(name.split()[0])
                logging.warning(
                    "Checkpoint %s cannot be read: using the last good one, step %d, and moving "
                    "the other to %s",
                    name, step, self._set_aside(bad),
                )  # fmt: skip
            return restored
        if broken:
            raise ValueError(
                f"no checkpoint in {self.folder} can be read: {'; '.join(broken)}. "
                "Restore the folder from a copy, or start in another workdir"
            )
        return None

    def read(self, step: int, like: TrainState) -> tuple[TrainState, Mapping[str, Any]]:
        """One step, onto the shapes and shardings of `like` (arrays or ShapeDtypeStructs)."""
        target = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like
        )
        got = self._manager.restore(
            step,
            args=ocp_args.Composite(
                state=ocp_args.StandardRestore(target), meta=ocp_args.JsonRestore()
            ),
        )
        return got["state"], got["meta"]

    def _set_aside(self, step: int) -> Path:
        target = self.folder.parent / "unreadable" / str(step)
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            target = target.with_name(target.name + "_")
        if jax.process_index() == 0:
            os.rename(self.folder / str(step), target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"step {step} set aside")
        self._manager.reload()
        return target

    def failed(self, what: str, error: Exception) -> SaveError:
        """The error of a write that failed: why, and what is left."""
        steps = self.steps()
        last = f"step {steps[-1]} is the last good one" if steps else "no step was saved yet"
        return SaveError(f"could not {what} in {self.folder.parent}: {_reason(error)}; {last}")

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """What fails to be written inside is a SaveError that says which step is left."""
        try:
            yield
        except OSError as error:
            raise self.failed("write the record", error) from error

    def reached_preemption(self, step: int) -> bool:
        """With `jax.distributed`: whether every process has agreed to save at this step."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Stops the threads that save; the error of a save that failed was raised before."""
        try:
            self._manager.close()
        except Exception as error:
            logging.debug("closing the checkpoints of %s: %s", self.folder, error)


def _reason(error: BaseException) -> str:
    """What the operating system said, wherever in the chain of exceptions; else what was raised."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        # TensorStore: "Failed writing: ...: No space left on device [os_error_code='28']".
        if told := re.search(r"([^:]+) \[os_error_code", str(seen)):
            return told[1].strip()
        seen = seen.__cause__ or seen.__context__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
