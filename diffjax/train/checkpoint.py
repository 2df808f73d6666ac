"""Checkpoints: state, config and position of the data as one atomic step (Orbax).

A step's folder appears by a rename, so a save that is cut off, by a kill or a full disk, leaves the
steps before it as they were. Digests of its files are in it by then, computed by the thread that
saves; what they do not confirm is never restored.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import args as ocp_args
from orbax.checkpoint import checkpoint_managers as policies
from orbax.checkpoint.args import CheckpointArgs

from diffjax.train import digests
from diffjax.train.state import TrainState

# From the folder of a step's state, as it was saved: what is to be read of it; see `weights`.
Asked = Callable[[Path], CheckpointArgs]
# What Orbax writes into a step, or writes once more, at the very moment of the rename.
_LATE = ("_CHECKPOINT_METADATA", "commit_success.txt")


class SaveError(RuntimeError):
    """A checkpoint could not be written; the steps before it are intact."""


class Damaged(ValueError):
    """A step is not as it was saved; says how it shows."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: where they lie; made when missing.
      keep: latest steps kept.
      keep_every: steps divisible by it are kept for good, or None.
      read_only: nothing in the folder is changed, for another process may be saving there: neither
        are saves that were cut off removed, nor damaged steps moved.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        keep: int = 2,
        keep_every: int | None = None,
        read_only: bool = False,
    ):
        self.folder, self._read_only = Path(folder).absolute(), read_only
        self._unlisted: int | None = None  # The step saved last, its late files not yet digested.
        rules: list[Any] = [policies.LatestN(keep)]
        if keep_every:
            rules.append(policies.EveryNSteps(keep_every))
        options: dict[str, Any] = {"create": False}
        if not read_only:
            options = {
                "cleanup_tmp_directories": True,
                "preservation_policy": policies.AnyPreservationPolicy(rules),
                "async_options": ocp.AsyncOptions(post_finalization_callback=self._digest),
            }
        self._manager = ocp.CheckpointManager(
            self.folder, options=ocp.CheckpointManagerOptions(**options)
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
            self._unlisted = step
            self._manager.save(
                step,
                args=ocp_args.Composite(
                    state=ocp_args.StandardSave(state), meta=ocp_args.JsonSave(dict(meta))
                ),
                force=True,
            )
        except Exception as error:
            raise self.failed("save a checkpoint", error) from error

    def _digest(self) -> None:
        """Called by Orbax's thread on process 0, when all is written and before the rename."""
        for written in self.folder.glob(f"{self._unlisted}{ocp.utils.TMP_DIR_SUFFIX}*"):
            digests.write(written, without=_LATE)

    def wait(self) -> None:
        """Until the save under way is on disk.

        Raises:
          SaveError: it could not be written.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
            step, self._unlisted = self._unlisted, None
            if step is not None and jax.process_index() == 0:
                digests.write(self.folder / str(step))
        except Exception as error:
            raise self.failed("save a checkpoint", error) from error

    def restore(self, like: TrainState | Asked) -> tuple[Any, Mapping[str, Any]] | None:
        """The latest good step, onto the shapes and shardings of `like`, or what is `Asked` of it;
        None when there is no checkpoint. A step that is not as it was saved is moved to
        `<folder>/../unreadable` (passed over, where the folder is only read), and the one before it
        is used, which is said.

        Raises:
          ValueError: there are checkpoints, but all are damaged, or the latest good one does not
            fit `like`.
        """
        broken: dict[int, str] = {}
        while steps := [step for step in self.steps() if step not in broken]:
            try:
                restored = self._read(steps[-1], like)
            except Damaged as error:
                if self._read_only and not self._home(steps[-1]).is_dir():
                    self._manager.reload()  # The run that saves here has removed it meanwhile.
                else:
                    broken[steps[-1]] = str(error)
                continue
            for bad, reason in broken.items():
                moved = "" if self._read_only else f", and moving it to {self._set_aside(bad)}"
                logging.warning(
                    "Checkpoint %d (%s) cannot be read: using the last good one, step %d%s",
                    bad, reason, steps[-1], moved,
                )  # fmt: skip
            return restored
        if broken:
            reasons = "; ".join(f"{step} ({reason})" for step, reason in broken.items())
            raise ValueError(
                f"no checkpoint in {self.folder} can be read: {reasons}. "
                "Restore the folder from a copy, or start in another workdir"
            )
        return None

    def read(self, step: int, like: TrainState | Asked) -> tuple[Any, Mapping[str, Any]]:
        """One step, onto the shapes and shardings of `like` (arrays or ShapeDtypeStructs), or what
        is `Asked` of it.

        Raises:
          ValueError: there is no such step, or it is damaged, or does not fit `like`.
        """
        others = [other for other in self.steps() if other != step]
        there = ", ".join(map(str, others)) or "none"
        if step not in self.steps():
            raise ValueError(
                f"{self.folder.parent} holds no checkpoint of step {step}; it holds {there}"
            )
        try:
            return self._read(step, like)
        except Damaged as error:
            raise ValueError(
                f"checkpoint {step} in {self.folder} cannot be read ({error}); the other steps "
                f"there: {there}"
            ) from error

    def _read(self, step: int, like: TrainState | Asked) -> tuple[Any, Mapping[str, Any]]:
        checked = self._check(step)
        state = _whole(like) if isinstance(like, TrainState) else like(self._home(step) / "state")
        try:
            got = self._manager.restore(
                step, args=ocp_args.Composite(state=state, meta=ocp_args.JsonRestore())
            )
        except Exception as error:
            first = str(error).strip().splitlines()[:1] or [repr(error)]
            reason = f"{type(error).__name__}: {first[0][:200]}"
            if checked and self._home(step).is_dir():
                raise ValueError(
                    f"checkpoint {step} in {self.folder} is as it was saved, but does not fit this "
                    f"run or this machine ({reason})"
                ) from error
            raise Damaged(reason) from error
        _check_meta(got["meta"])
        return got["state"], got["meta"]

    def _check(self, step: int) -> bool:
        """Whether the step has digests, which it then agrees with; each process checks its share.

        Raises:
          Damaged: it does not.
        """
        names = [digests.NAME]
        try:
            listed = digests.read(self._home(step))
        except ValueError:
            listed, bad = {}, 0
        else:
            names += sorted(listed or {})
            mine = names[1 + jax.process_index() :: jax.process_count()]
            wrong = digests.differing(self._home(step), listed or {}, mine)
            bad = names.index(wrong[0]) if wrong else len(names)
        if jax.process_count() > 1:
            bad = int(np.min(multihost_utils.process_allgather(np.int32(bad))))
        if bad < len(names):
            raise Damaged(f"{names[bad]} is not as it was saved")
        if listed is None:
            logging.warning(
                "Checkpoint %d in %s is of a version that kept no digests: its content cannot be "
                "checked", step, self.folder,
            )  # fmt: skip
        return listed is not None

    def _home(self, step: int) -> Path:
        return self.folder / str(step)

    def _set_aside(self, step: int) -> Path:
        target = self.folder.parent / "unreadable" / str(step)
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            target = target.with_name(target.name + "_")
        if jax.process_index() == 0:
            os.rename(self._home(step), target)
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
        """Turns what fails to be written inside into a SaveError that says which step is left."""
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


def _whole(like: TrainState) -> CheckpointArgs:
    target = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like
    )
    return ocp_args.StandardRestore(target)


def _check_meta(meta: Any) -> None:
    """Raises Damaged where what a run reads of a step beside its arrays is not there."""
    data = meta.get("data") if isinstance(meta, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(data.get("fingerprint"), Mapping):
        raise Damaged("its meta has no data.fingerprint")
    rest = meta.get("unrecorded", {})
    if not isinstance(rest, Mapping) or not all(isinstance(v, list) for v in rest.values()):
        raise Damaged("its meta.unrecorded holds no lists")


def _reason(error: BaseException) -> str:
    """The operating system's words, wherever in the chain of exceptions; else what was raised."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        # TensorStore: "Failed writing: ...: No space left on device [os_error_code='28']".
        if match := re.search(r"([^:]+) \[os_error_code", str(seen)):
            return match[1].strip()
        seen = seen.__cause__ or seen.__context__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
