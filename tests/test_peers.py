"""A process of a run that dies takes the others with it in one line, within seconds."""

import signal
import socket
import time

import pytest


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def together(processes, tiny, workdir, *more: str, count: int = 2):
    """The processes of one run."""
    common = [f"--config={tiny}", f"--workdir={workdir}", f"--coordinator=127.0.0.1:{free_port()}"]
    common += [f"--num_processes={count}", "--config.train.checkpoint_every=8", *more]
    return [processes.start(*common, f"--process_id={i}") for i in range(count)]


@pytest.mark.heavy
@pytest.mark.parametrize("dies", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_process_ends_the_others_in_one_line(processes, tiny, tmp_path, dies, how):
    """Killed, its connections close at once; stopped, as where a machine loses its power, nothing
    tells of it but that it is silent."""
    started = together(processes, tiny, tmp_path / "run", "--config.train.steps=4000")
    started[0].until(" 28/4,000")
    begun = time.monotonic()
    started[dies].kill(how)
    outcome = started[1 - dies].wait()
    took = time.monotonic() - begun
    started[dies].kill(signal.SIGKILL)
    started[dies].wait()
    assert outcome.code == 3, outcome
    assert took < 30
    assert f"process {dies} of 2 is gone" in outcome.error
    assert "start all 2 again with the same commands: the run goes on from step" in outcome.error
    assert outcome.stderr == outcome.error + "\n"


@pytest.mark.heavy
def test_an_error_of_one_process_ends_the_others_too(processes, tiny, tmp_path):
    """The second has a mistake of its own in its command."""
    port, workdir = free_port(), tmp_path / "run"
    common = [f"--config={tiny}", f"--workdir={workdir}", f"--coordinator=127.0.0.1:{port}"]
    common.append("--num_processes=2")
    started = [
        processes.start(*common, f"--process_id={i}", *more)
        for i, more in enumerate([[], ["--config.train.log_every=0"]])
    ]
    begun = time.monotonic()
    first, second = [process.wait() for process in started]
    assert time.monotonic() - begun < 60
    assert second.code == 2 and "train.log_every=0 must be at least 1" in second.error
    assert first.code == 3 and "process 1 of 2 is gone" in first.error


@pytest.mark.heavy
def test_a_refused_workdir_is_told_to_every_process(processes, tiny, tmp_path):
    first = processes.start(f"--config={tiny}", f"--workdir={tmp_path / 'run'}",
                            "--config.train.steps=4000")  # fmt: skip
    first.until(" 4/4,000")
    outcomes = [p.wait() for p in together(processes, tiny, tmp_path / "run")]
    first.kill()
    first.wait()
    assert [o.code for o in outcomes] == [2, 2]
    assert f"is in use by another run: process {first.pid}" in outcomes[0].error
    assert "in use by another run" in outcomes[1].error or "process 0" in outcomes[1].error
