"""One writer a folder: the second is told who the first is, and a kill gives the folder back."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from diffjax.launch import lock
from diffjax.launch.lock import Busy, writing

ROOT = Path(__file__).resolve().parents[2]
# Holds the folder; says so, and goes on until it is killed. "fork" leaves a child behind.
HOLD = """
import errno, fcntl, os, sys, time
from pathlib import Path
from diffjax.launch import lock
from diffjax.launch.lock import writing
def unsupported(*_):
    raise OSError(errno.ENOLCK, "No locks available")
if "lease" in sys.argv:
    lock.LEASE, lock.BEAT = 1.2, 0.3
    fcntl.lockf = unsupported
with writing(Path(sys.argv[1])):
    if "fork" in sys.argv and os.fork() == 0:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def held(folder: Path, *how: str):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLD, str(folder), *how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def unsupported(*_: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_the_second_is_told_who_holds_it_and_a_kill_gives_it_back(tmp_path):
    folder = tmp_path / "run"
    with held(folder, "fork", "--config=a b.py") as process:
        begun = time.monotonic()
        with pytest.raises(Busy) as error, writing(folder):
            pass
        said = str(error.value)
        assert time.monotonic() - begun < 2 and "\n" not in said
        assert f"{folder} is in use by another run: process {process.pid} on " in said
        assert "since 20" in said and "'--config=a b.py'" in said
        process.kill()
        process.wait()
        # Its child lives on, and holds nothing.
        with writing(folder):
            assert (folder / ".lock").exists()
    assert not folder.exists() or not list(folder.iterdir())


def test_who_waits_goes_on_when_the_first_has_ended(tmp_path, capsys):
    with held(tmp_path) as process:
        threading.Timer(0.5, process.kill).start()
        with writing(tmp_path, wait=True):
            assert process.wait() == -signal.SIGKILL
    said = capsys.readouterr().out
    assert said.startswith(f"waiting for {tmp_path}: process {process.pid} on ")
    assert said.count("\n") == 1


def test_without_locks_of_the_file_system_a_heartbeat_stands_in(tmp_path, monkeypatch):
    """The first lives: refused within 10 s. It is killed: taken over."""
    assert lock.LEASE + 2 * lock.BEAT < 10 and lock.LEASE > 3 * lock.BEAT
    monkeypatch.setattr(lock, "LEASE", 1.2)
    monkeypatch.setattr(lock, "BEAT", 0.3)
    monkeypatch.setattr(fcntl, "lockf", unsupported)
    with held(tmp_path, "lease") as process:
        with pytest.raises(Busy, match=rf"process {process.pid} on .* since"), writing(tmp_path):
            pass
        process.kill()
        process.wait()
        with writing(tmp_path):
            assert [p.name for p in tmp_path.iterdir() if "lease" in p.name] == [".lock.lease"]
    assert not list(tmp_path.iterdir())


def test_a_process_holds_what_it_holds_already(tmp_path):
    with writing(tmp_path):
        with writing(tmp_path / "." / ".." / tmp_path.name):
            assert (tmp_path / ".lock").exists()
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()
    with writing(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_a_refused_run_leaves_no_folder_and_a_real_one_keeps_its(tmp_path):
    with pytest.raises(KeyError), writing(tmp_path / "a" / "run"):
        raise KeyError
    assert not (tmp_path / "a" / "run").exists()
    with writing(tmp_path / "run"):
        (tmp_path / "run" / "config.json").write_text("{}")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00\xff", '{"pid": 1}'])
def test_a_record_that_says_nothing_is_no_traceback(tmp_path, text, monkeypatch):
    def elsewhere(*_):
        raise OSError(errno.EAGAIN, "held")

    monkeypatch.setattr(fcntl, "lockf", elsewhere)
    monkeypatch.setattr(lock.time, "sleep", lambda _: None)
    (tmp_path / ".lock").write_text(text)
    with pytest.raises(Busy, match="a process that has left no record"), writing(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_an_error_of_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), writing(tmp_path / "file"):
        pass
