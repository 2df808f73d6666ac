"""A run that is killed and started again is the run that was not: bit for bit, samples and all."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import xla_flags

from diffjax.assembly.experiment import open_run

TIMES = ("seconds", "train/images_per_second")


def arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint, and samples drawn from its weights."""
    experiment = open_run(workdir)
    step, state, frozen = experiment.trained()
    assert step == experiment.choices.steps
    draw = experiment.task.predict_fns()["sample"]
    index = np.arange(6, dtype=np.int32)
    drawn = {
        f"samples/{ema}": draw(
            state.variables(frozen, ema), np.int32(3), index, index, sampler="ddim", steps=3
        )
        for ema in (None, "slow")
    }
    named = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    assert any(name.startswith("opt_state") for name in named)
    return {name: np.asarray(a) for name, a in (named | drawn).items()}


def metrics(workdir: Path) -> list[dict]:
    """The record of a run, without what a clock measured."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def same_bytes(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    differ = [name for name in a if a[name].tobytes() != b[name].tobytes()]
    assert not differ


def near(a: dict[str, np.ndarray], b: dict[str, np.ndarray], tolerance: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.fixture(scope="session")
def command(processes, tiny):
    """Starts a run of the tiny config in a workdir."""
    return lambda workdir, *more: [f"--config={tiny}", f"--workdir={workdir}", *more]


@pytest.fixture(scope="session")
def whole(processes, command, tmp_path_factory) -> Path:
    """The workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    outcome = processes.run(*command(workdir))
    assert outcome.code == 0, outcome.stderr
    return workdir


@pytest.fixture(scope="session")
def whole_arrays(whole) -> dict[str, np.ndarray]:
    return arrays(whole)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_twice_equals_uninterrupted(processes, command, whole, whole_arrays, tmp_path, seed):
    drawn = random.Random(seed)
    kills = sorted(4 * drawn.randint(4, 13) for _ in range(2))
    workdir = tmp_path / "run"
    for step in kills:
        process = processes.start(*command(workdir))
        process.until(f"step {step}/60")
        process.kill(signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
    assert processes.run(*command(workdir)).code == 0
    same_bytes(arrays(workdir), whole_arrays)
    assert metrics(workdir) == metrics(whole)


def test_killed_and_stopped_by_sigterm_goes_on_to_the_same_end(
    processes, command, whole, whole_arrays, tmp_path
):
    workdir = tmp_path / "run"
    process = processes.start(*command(workdir))
    process.until("step 12/60")
    process.kill(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    process = processes.start(*command(workdir))
    process.until("step 20/60")
    process.kill(signal.SIGTERM)
    outcome = process.wait()
    assert outcome.code == 143
    stopped = int(outcome.error.split("at step ")[1].split()[0])
    assert "SIGTERM" in outcome.error and (workdir / "checkpoints" / str(stopped)).is_dir()
    outcome = processes.run(*command(workdir))
    assert outcome.code == 0 and f"resuming at step {stopped} of 60" in outcome.stdout
    same_bytes(arrays(workdir), whole_arrays)
    assert metrics(workdir) == metrics(whole)


@pytest.mark.heavy
def test_the_devices_may_change_between_runs(processes, command, whole_arrays, tmp_path):
    workdir = tmp_path / "run"
    for step, devices, mesh in ((20, 1, ()), (40, 4, ("--config.mesh.fsdp=2",))):
        process = processes.start(*command(workdir, *mesh), devices=devices)
        process.until(f"step {step}/60")
        process.kill(signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
    outcome = processes.run(*command(workdir), devices=2)
    assert outcome.code == 0, outcome.stderr
    # Sums over devices round in another order, and Adam magnifies that where gradients are small.
    near(arrays(workdir), whole_arrays, 2e-3)


@pytest.mark.heavy
def test_the_program_itself_is_resumed_as_the_server_of_runs_says(
    command, whole, whole_arrays, tmp_path
):
    workdir = tmp_path / "run"
    start = partial(
        subprocess.Popen,
        [sys.executable, "-m", "experiments.train", *command(workdir)],
        env={**os.environ, "XLA_FLAGS": xla_flags.quick()},  # as the server of runs sets them
        stdout=subprocess.PIPE,
        text=True,
    )
    killed = start()
    for line in killed.stdout:
        if line.startswith("step 28/60"):
            break
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    again = start()
    again.communicate()
    assert again.returncode == 0
    same_bytes(arrays(workdir), whole_arrays)
    assert metrics(workdir) == metrics(whole)


@pytest.mark.heavy
def test_a_run_killed_amid_an_evaluation_does_it_again(processes, tiny, tmp_path):
    evals = (
        "\nc = get_config\n"
        "def get_config(arg=None):\n"
        "    config = c(arg)\n"
        "    config.train.steps = 12\n"
        "    config.train.checkpoint_every = 4\n"
        "    recipe = dict(steps=2)\n"
        "    config.evals.first = dict(type='samples', pred_kw=recipe, columns=1, every=8)\n"
        "    config.evals.second = dict(type='likelihood', pred_kw=dict(steps=2), every=8,\n"
        "                               num_images=20)\n"
        "    return config\n"
    )
    config = tmp_path / "evaluated.py"
    config.write_text(tiny.read_text() + evals)
    arguments = [f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    process = processes.start(*arguments)
    process.until("step 8  first")
    process.kill(signal.SIGTERM)
    outcome = process.wait()
    assert outcome.code == 143, outcome
    outcome = processes.run(*arguments)
    assert outcome.code == 0, outcome.stderr
    lines = (tmp_path / "run" / "evals.jsonl").read_text().splitlines()
    names = [(r["step"], r["eval"], r["name"]) for r in map(json.loads, lines)]
    assert {(s, e) for s, e, _ in names} == {(8, "second"), (12, "second")}
    assert len(names) == len(set(names))
    figures = {p.name for p in (tmp_path / "run" / "figures").rglob("*.png")}
    assert {"00000008_samples.png", "00000012_samples.png"} <= figures
    # The same command once more has nothing left to do, and repeats no line.
    assert processes.run(*arguments).code == 0
    assert (tmp_path / "run" / "evals.jsonl").read_text().splitlines() == lines


@pytest.mark.heavy
def test_two_processes_are_one_run(processes, command, whole, whole_arrays, tmp_path):
    """Two devices each; the record is written once, and a run of one process goes on from it."""
    workdir = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = ("--config.mesh.fsdp=2", f"--coordinator=127.0.0.1:{port}", "--num_processes=2")
    started = [
        processes.start(*command(workdir, *both, f"--process_id={i}"), devices=2) for i in range(2)
    ]
    for process in started:
        outcome = process.wait()
        assert outcome.code == 0, outcome.stderr
    assert "step" in started[0].stdout and "step" not in started[1].stdout
    got, expected = metrics(workdir), metrics(whole)
    assert [r["step"] for r in got] == [r["step"] for r in expected]
    for a, b in zip(got, expected, strict=True):
        assert a == pytest.approx(b, rel=2e-3)
    near(arrays(workdir), whole_arrays, 2e-3)
