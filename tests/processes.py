"""Runs of `experiments.train` as processes that can be killed, without paying for imports each.

A server imports the program once and forks for every run, before JAX opens a device; a run is then
the process that `python -m experiments.train` would be, with an id, an exit code and a stderr of
its own. As a module this file is the test's side, as a script it is the server.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xla_flags

ROOT = Path(__file__).resolve().parent.parent
MAINS = ("evaluate", "fid", "prepare_data", "report", "sample", "train")
PROGRAM = "program"  # in place of a main: a text that is executed


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code (negative: the signal), and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line of its error."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in self.stderr, self.stderr
        assert len(lines) == 1, self.stderr
        assert self.stderr.rstrip().endswith(lines[0]), self.stderr
        return lines[0]


class Process:
    """A run under way."""

    def __init__(self, server: Server, pid: int, folder: Path):
        self.server, self.pid, self._folder = server, pid, folder

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends the signal `number`."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def stdout(self) -> str:
        """What it has said so far."""
        path = self._folder / "stdout"
        return path.read_text() if path.exists() else ""

    def until(self, said: str) -> None:
        """Returns when the run has written `said`, or has ended."""
        give_up = time.monotonic() + 600
        while said not in self.stdout and not self.ended and time.monotonic() < give_up:
            time.sleep(0.02)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return (self._folder / "code").exists()

    def wait(self) -> Outcome:
        """How it ended."""
        give_up = time.monotonic() + 600
        while not self.ended:
            assert self.server.alive, "the server of runs has died"
            assert time.monotonic() < give_up, f"the run {self.pid} does not end"
            time.sleep(0.02)
        code = int((self._folder / "code").read_text())
        return Outcome(code, self.stdout, (self._folder / "stderr").read_text())


class Server:
    """Starts runs; `folder` keeps their output."""

    def __init__(self, folder: Path):
        self._folder, self._count = folder, 0
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        environment.pop("XLA_FLAGS", None)
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def alive(self) -> bool:
        """Whether runs can be started."""
        return self._server.poll() is None

    def start(
        self, *arguments: str, devices: int = 1, file_size: int = 0, main: str = "train"
    ) -> Process:
        """`python -m experiments.<main> <arguments>` on forced host devices; no file may grow over
        `file_size` bytes, where one is given."""
        self._count += 1
        folder = self._folder / f"run_{self._count}"
        folder.mkdir()
        request = {
            "arguments": arguments,
            "devices": devices,
            "file_size": file_size,
            "main": main,
            "folder": str(folder),
        }
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Process(self, int(self._server.stdout.readline()), folder)

    def run(
        self, *arguments: str, devices: int = 1, file_size: int = 0, main: str = "train"
    ) -> Outcome:
        """A whole run."""
        return self.start(*arguments, devices=devices, file_size=file_size, main=main).wait()

    def on_eight_devices(self, program: str, argument: object, *folders: Path) -> Any:
        """The JSON that `program` prints at last on eight forced host devices, given `argument` as
        JSON; it may import from `folders`."""
        arguments = (program, json.dumps(argument), *map(str, folders))
        done = self.run(*arguments, devices=8, main=PROGRAM)
        assert done.code == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    def close(self) -> None:
        """Ends the server; its runs are over by then."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)


def _child(request: dict) -> None:
    """The run itself, in a fork of its own."""
    folder = Path(request["folder"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    count = f"--xla_force_host_platform_device_count={request['devices']}"
    os.environ["XLA_FLAGS"] = f"{count} {xla_flags.quick()}"
    if request["file_size"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
    if request["main"] == PROGRAM:
        program, argument, *folders = request["arguments"]
        sys.path[:0] = folders
        sys.argv = [PROGRAM, argument]
        exec(compile(program, PROGRAM, "exec"), {"__name__": "__main__"})
        return
    module = sys.modules[f"experiments.{request['main']}"]
    sys.argv = [str(module.__file__), *request["arguments"]]
    module.define_flags()
    names = getattr(module, "ARGUMENTS", ())
    sys.modules["diffjax.launch.cli"].run_main(module.main, names)


def _serve() -> None:
    """One line of standard input, one run."""
    for main in MAINS:
        importlib.import_module(f"experiments.{main}")

    for line in sys.stdin:
        request = json.loads(line)
        # The middle process waits for the run, so that its exit code outlives a kill.
        read, write = os.pipe()
        middle = os.fork()
        if not middle:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            run = os.fork()
            if not run:
                _child(request)
                os._exit(0)
            os.write(write, str(run).encode())
            _, status = os.waitpid(run, 0)
            code = Path(request["folder"]) / "code"
            code.with_suffix(".tmp").write_text(str(os.waitstatus_to_exitcode(status)))
            code.with_suffix(".tmp").rename(code)
            os._exit(0)
        print(os.read(read, 32).decode(), flush=True)
        os.close(read)
        os.close(write)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _serve()
