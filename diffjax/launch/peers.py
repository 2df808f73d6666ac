"""Watch over the processes of a run: when one is gone, the others say so in one line and end.

JAX's coordination service notices a process that sends no heartbeats, and then ends every other by
`abort`, with pages of its own log and a stack dump on descriptor 2. What it writes there is read
here first, and `abort` is met by a handler that says what it means. (JAX has no public way to be
told; the callback that its client takes cannot be written in Python, jaxlib 0.10.2.)
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import jax

from diffjax.launch.one_line import one_line

# Seconds that it takes a line of the log to be read; and beyond the timeout, the service to act.
_READ, _LATE = 0.2, 8.0
_LOG_LINE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w./]+):\d+\]")
_SERVICE = ("coordination_service", "preemption_sync", "client.", "service.")
_FATAL = re.compile(r"JAX distributed service|coordination service", re.IGNORECASE)
_GONE = re.compile(r"Task (\d+) heartbeat timeout|stopped sending heartbeats\):\s*((?:\S+\s)+)")
# How the runtime's own errors begin.
_STATUS = re.compile(
    r"\b(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): "
)


@dataclass
class Watch:
    """Watch of this process over the others.

    Attributes:
      count: processes of the run; this is number `me`.
      workdir: where the run is saved; None where nothing is.
      timeout: seconds without a heartbeat until a process counts as gone.
    """

    count: int
    me: int
    workdir: Path | None
    timeout: int
    _held: list[str] = field(default_factory=list)
    _ending: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Reads descriptor 2 from now on; Python's own stderr goes straight to where it went."""
        self._stderr = os.dup(2)
        sys.stderr.flush()
        sys.stderr = open(self._stderr, "w", buffering=1, closefd=False)  # noqa: SIM115
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        threading.Thread(target=self._relay, args=(read,), daemon=True).start()
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        ctypes.CDLL(None).signal(int(signal.SIGABRT), self._handler)

    def _relay(self, read: int) -> None:
        """Passes on what is written, but for what the coordination service says."""
        service = False
        with open(read, errors="replace") as lines:
            for line in lines:
                if logged := _LOG_LINE.match(line):
                    service = Path(logged[1]).name.startswith(_SERVICE)
                if service:
                    self._held.append(line)
                else:
                    os.write(self._stderr, line.encode())

    def _aborted(self, _: int) -> None:
        time.sleep(_READ)
        if _FATAL.search("".join(self._held)):
            self._end(self._who(), 3)
        os.write(self._stderr, "".join(self._held).encode())  # An abort of another kind goes on.

    def _who(self) -> str:
        """The processes that are gone, as far as the service has said."""
        output = "".join(self._held)
        numbers = {int(n) for found in _GONE.finditer(output) for n in re.findall(r"\d+", found[0])}
        if not numbers and self.me:
            numbers = {0}  # The service, which would have named another, is in process 0.
        gone = sorted(n for n in numbers if n < self.count and n != self.me)
        named = ", ".join(map(str, gone)) or "another"
        some = "processes" if len(gone) > 1 else "process"
        return f"{some} {named} of {self.count} {'are' if len(gone) > 1 else 'is'} gone"

    def failed(self, error: BaseException, code: int) -> NoReturn:
        """Ends this process for an `error` of its own, without waiting for the others, who would
        wait for it; for one of the runtime, when it is known whether another process is gone."""
        if _of_runtime(error):
            time.sleep(self.timeout + _LATE)  # `_aborted` ends the process meanwhile.
            self._end(f"a computation with the other processes failed ({one_line(error)})", 3)
        if code == 1:
            traceback.print_exception(error)
        else:
            print(f"error: {one_line(error)}", file=sys.stderr)
        self._leave(code)

    def _end(self, what: str, code: int) -> NoReturn:
        with self._ending:
            line = (
                f"error: {what}, so process {self.me} ends too. See why in that one's log, and "
                f"start all {self.count} again with the same commands{self._from()}\n"
            )
            os.write(self._stderr, line.encode())
            self._leave(code)

    def _from(self) -> str:
        if self.workdir is None:
            return ""
        folder = self.workdir / "checkpoints"
        steps = [int(p.name) for p in folder.glob("*") if p.name.isdigit()]
        return f": the run goes on from step {max(steps)}" if steps else ": no step was saved yet"

    def _leave(self, code: int) -> NoReturn:
        sys.stdout.flush()
        time.sleep(_READ)
        os._exit(code)


def _of_runtime(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError) or _STATUS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
