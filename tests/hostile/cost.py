"""Costs of reading a hostile file in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from diffjax.data.tokenizer_files import load_tokenizer
from diffjax.evals.reference import read_reference
from diffjax.interop.clip import load_clip
from diffjax.interop.dit import load_dit
from diffjax.interop.files import read_tensors
from diffjax.launch.one_line import one_line

from .files import HOSTILE

READERS: dict[str, Callable[[Path], Any]] = {
    "weights": read_tensors,
    "clip": load_clip,
    "dit": load_dit,
    "tokenizer": load_tokenizer,
    "statistics": read_reference,
}
# Address space of the reader, above which it fails: so that a file that succeeds harms no machine.
CEILING = 8 * 2**30


class Cost(NamedTuple):
    """Costs of a file.

    Attributes:
      size, peak: bytes of the file, and of memory above an idle process.
      seconds: until the error.
      error: the line that a user would see; "" where the file was read.
    """

    size: int
    peak: int
    seconds: float
    error: str


def _peak() -> int:
    """Bytes; macOS counts in them, Linux in kB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _read(reader: str, path: Path, pipe: Connection) -> None:
    """Runs in the child: reads, and sends its peak, its seconds and the error."""
    resource.setrlimit(resource.RLIMIT_AS, (CEILING, CEILING))
    before, start, error = _peak(), time.perf_counter(), ""
    try:
        READERS[reader](path)
    except ValueError as refused:
        error = one_line(refused)
    pipe.send((_peak() - before, time.perf_counter() - start, error))


def measure(name: str, folder: Path, timeout: float = 60.0) -> Cost:
    """The cost of a file of `HOSTILE`, made in `folder`, in a process that is forked from a server
    which has imported everything and read nothing.

    Raises:
      RuntimeError: the reader died, or was stopped after `timeout` seconds.
    """
    make, reader = HOSTILE[name]
    path = make(folder)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_read, args=(reader, path, theirs))
    child.start()
    theirs.close()
    try:
        if not mine.poll(timeout):
            raise RuntimeError(f"{name}: not read after {timeout:.0f} s")
        peak, seconds, error = mine.recv()
    except EOFError:
        raise RuntimeError(f"{name}: the reader died") from None
    finally:
        child.kill()
        child.join()
    files = path.iterdir() if path.is_dir() else [path]
    return Cost(sum(f.stat().st_size for f in files), peak, seconds, error)
