"""Timing rivals fairly on a noisy machine: A B A B ..., medians, ratios round by round.

Each rival is a worker, a process of its own, so that environment variables (thread counts, wait
policies) can differ. The protocol is lines of JSON over pipes: the worker builds and warms up,
says {"ready": {...}}, and then answers every {"run": operation} with {"seconds": float}.
Nothing else runs while one is being timed.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

Operation = Callable[[], None]


def resident() -> int:
    """The most bytes that this process has had in the machine's memory, libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(
    build: Callable[[], tuple[dict[str, Any], dict[str, Operation]]],
    peak: Callable[[], int] = resident,
) -> None:
    """The worker's side: `build` gives facts to report and the operations, each blocking.

    `peak` gives the bytes that it took to build and run each operation, reported as `peak_bytes`.
    Standard output belongs to the protocol; whatever the libraries print goes to stderr.
    """
    out, sys.stdout = sys.stdout, sys.stderr
    facts, operations = build()
    for operation in operations.values():
        operation()
        operation()
    _send(out, {"ready": {**facts, "peak_bytes": peak()}})
    for line in sys.stdin:
        operation = operations[json.loads(line)["run"]]
        start = time.perf_counter()
        operation()
        _send(out, {"seconds": time.perf_counter() - start})


@dataclass
class Worker:
    """The parent's side of one rival: `python -m module *arguments` under `environment`."""

    name: str
    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module, *self.arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.facts: dict[str, Any] = {}

    def wait_ready(self) -> None:
        """Blocks until the worker has built and warmed up."""
        self.facts = self._receive()["ready"]

    def run(self, operation: str) -> float:
        """Seconds that one run of `operation` took in the worker."""
        assert self._process.stdin is not None
        _send(self._process.stdin, {"run": operation})
        return self._receive()["seconds"]

    def close(self) -> None:
        """Ends the worker."""
        self._process.kill()
        self._process.communicate()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            last = errors.strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(f"benchmark worker {self.name!r} died: {last[0]}")
        try:
            return json.loads(line)
        except ValueError as error:
            raise RuntimeError(f"benchmark worker {self.name!r} said {line!r}") from error


class Timed(Protocol):
    """Anything that can be timed: it has a name and runs operations by name."""

    name: str

    def run(self, operation: str) -> float:
        """Seconds that one run of `operation` took."""
        ...


def interleave(
    workers: Sequence[Timed], operations: Sequence[str], rounds: int, pause: float = 0.3
) -> dict[tuple[str, str], list[float]]:
    """Seconds per (worker, operation), one entry a round, every worker once a round.

    `pause` seconds between runs let a rival's spinning threads go to sleep, else they would be
    timed as part of the next one. The order is reversed every other round.
    """
    seconds: dict[tuple[str, str], list[float]] = {
        (w.name, o): [] for w in workers for o in operations
    }
    for i in range(rounds):
        for worker in workers if i % 2 == 0 else reversed(workers):
            for operation in operations:
                time.sleep(pause)
                seconds[worker.name, operation].append(worker.run(operation))
    return seconds


@dataclass(frozen=True)
class Comparison:
    """Ours against the best peer on one operation; `ratio` > 1 where ours is faster."""

    operation: str
    ours: float
    peer: float
    peer_name: str
    ratio: float


def compare(
    seconds: Mapping[tuple[str, str], Sequence[float]], ours: str, operation: str
) -> Comparison:
    """The peer with the least median, and the median over rounds of peer / ours."""
    mine = seconds[ours, operation]
    peers = {w: s for (w, o), s in seconds.items() if o == operation and w != ours}
    best = min(peers, key=lambda w: statistics.median(peers[w]))
    ratio = statistics.median(p / m for p, m in zip(peers[best], mine, strict=True))
    return Comparison(
        operation, statistics.median(mine), statistics.median(peers[best]), best, ratio
    )


def table(seconds: Mapping[tuple[str, str], Sequence[float]], ours: str) -> str:
    """Median milliseconds of every worker, and a line of ratios against the best peer."""
    names = list(dict.fromkeys(w for w, _ in seconds))
    operations = list(dict.fromkeys(o for _, o in seconds))
    wide = max(map(len, names))
    lines = [f"{'ms per call':{wide}}  " + "  ".join(f"{o:>12}" for o in operations)]
    for name in names:
        cells = (f"{1e3 * statistics.median(seconds[name, o]):12.1f}" for o in operations)
        lines.append(f"{name:{wide}}  " + "  ".join(cells))
    for o in operations:
        c = compare(seconds, ours, o)
        lines.append(f"{o}: {c.ratio:.2f} times as fast as {c.peer_name}")
    return "\n".join(lines)


def _send(stream: IO[Any], message: dict[str, Any]) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()
