"""One writer a folder: who trains, evaluates or sweeps in a workdir holds its lock until it ends.

The operating system holds the lock (`fcntl.lockf`), on network file systems that know locks too, so
that it ends with the process however that ends. It is the process's own: workers that it forked and
that outlive it hold nothing, as they would with `flock`. Where the file system has no locks, a
heartbeat stands in (filelock's lease): one that stops for `LEASE` seconds is taken over.

Of several processes that are one run, process 0 holds the lock for all. What only reads a workdir
(`experiments.sample`, `experiments.report`, `experiments.search`) takes none; data sets are written
aside and put in place by a rename (`diffjax.data.builders.base.prepare`), and need none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import filelock

from diffjax.launch import distributed

FILE = ".lock"
# Seconds: without a heartbeat until a lease counts as dead; between two; between two attempts.
LEASE, BEAT, AGAIN = 6.0, 1.5, 1.0
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_ours: dict[Path, int] = {}  # Folders that this process holds, and how many times.
os.register_at_fork(after_in_child=_ours.clear)


class Busy(ValueError):
    """Another process writes in the folder; says which."""


@contextlib.contextmanager
def writing(folder: Path, wait: bool = False) -> Iterator[None]:
    """Inside, no other process writes in `folder`, which is made when missing.

    Args:
      wait: for the process that writes there to end, instead of raising.

    Raises:
      Busy: another process holds the folder; says who, since when and by which command.
    """
    taken: list[Callable[[], None]] = []
    distributed.by_first(lambda: taken.append(_taken(folder, wait)))
    try:
        yield
    finally:
        for release in taken:
            release()


def _taken(folder: Path, wait: bool) -> Callable[[], None]:
    """Takes the lock; returns what gives it back."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    home = folder.resolve()
    announced = False
    while not _ours.get(home):
        try:
            free = _take(home / FILE)
        except Busy as error:
            if not wait:
                raise Busy(
                    f"{folder} is in use by another run: {error}. Wait for it, stop it, or take "
                    "another workdir"
                ) from None
            if not announced:
                print(f"waiting for {folder}: {error}", flush=True)
            announced = True
            time.sleep(AGAIN)
        else:
            break
    else:
        free = lambda: None  # noqa: E731 (held already: whoever took it gives it back)
    _ours[home] = _ours.get(home, 0) + 1

    def release() -> None:
        if home not in _ours:  # A fork of the process that holds it.
            return
        _ours[home] -= 1
        free()
        if made:
            with contextlib.suppress(OSError):
                home.rmdir()  # Only where nothing was written: a run that was refused, say.

    return release


def _take(path: Path) -> Callable[[], None]:
    """The lock file `path`, held; or Busy."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if error.errno in _HELD_BY_ANOTHER:
                raise Busy(_holder(path)) from None
            if error.errno in _NO_LOCKS:
                return _lease(path)
            raise
        if _is_at(file, path):
            break
        os.close(file)  # Its holder has removed it meanwhile.
    os.ftruncate(file, 0)
    os.pwrite(file, _myself(), 0)

    def free() -> None:
        path.unlink(missing_ok=True)
        os.close(file)

    return free


def _lease(path: Path) -> Callable[[], None]:
    """The same by a heartbeat."""

    def lost(_: object) -> None:
        print(
            f"error: {path.parent} was taken over by another run, for this one's heartbeat had "
            f"stopped ({_holder(path)})",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        os._exit(3)  # Whatever this process wrote now would mix with the other's.

    lease = filelock.SoftFileLease(
        path.with_name(FILE + ".lease"),
        lease_duration=LEASE,
        heartbeat_interval=BEAT,
        on_compromise=lost,
        timeout=LEASE + 2 * BEAT,
        poll_interval=0.2,
        thread_local=False,
    )
    try:
        lease.acquire()
    except filelock.Timeout:
        raise Busy(_holder(path)) from None
    path.write_bytes(_myself())

    def free() -> None:
        path.unlink(missing_ok=True)
        lease.release()

    return free


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _myself() -> bytes:
    """The record of this process, for the next one."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"-m {spec.name}" if spec else sys.argv[0]
    record = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().isoformat(" ", "seconds"),
        "command": f"python {program} {shlex.join(sys.argv[1:])}".strip(),
    }
    return (json.dumps(record) + "\n").encode()


def _holder(path: Path) -> str:
    """The holder of the lock, as far as its record says."""
    for _ in range(20):  # It is written right after the lock was taken.
        try:
            record = json.loads(path.read_bytes())
            return (
                f"process {record['pid']} on {record['host']} since {record['since']} "
                f"({record['command']})"
            )
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.05)
    return "a process that has left no record of itself"
