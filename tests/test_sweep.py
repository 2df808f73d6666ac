"""The 72-cell sweep from one command: killed, started again, and the same as never killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """A few steps of the digits run, its classifier as small."""
    runs = tmp_path_factory.mktemp("runs")
    command = [
        sys.executable, "-m", "experiments.train", "--config=configs/ddpm/digits.py",
        f"--workdir={runs / 'digits'}", "--config.train.steps=4", "--config.train.log_every=2",
        "--config.train.checkpoint_every=4", "--config.train.batch_size=16",
        "--config.model.channels=8", "--config.evals.generation.num_samples=40",
        "--config.features.overrides=('train.steps=4','train.log_every=2','train.batch_size=16')",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return runs / "digits"


def sweep(run: Path, workdir: Path) -> list[str]:
    return [
        sys.executable, "-m", "experiments.sweep", "--study=experiments/studies/digits_grid",
        f"--run={run}", f"--workdir={workdir}", "--set=num_samples=20",
    ]  # fmt: skip


@pytest.mark.heavy
def test_a_killed_sweep_goes_on(tiny_run, tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    process = subprocess.Popen(
        sweep(tiny_run, broken), cwd=ROOT, env=ENV, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 600
    while len(list((broken / "cells").glob("*.json"))) < 5 and time.monotonic() < deadline:
        assert process.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    written = {p.name: p.stat().st_mtime_ns for p in (broken / "cells").glob("*.json")}
    assert 5 <= len(written) < 72

    for workdir in (broken, whole):
        done = subprocess.run(
            sweep(tiny_run, workdir), cwd=ROOT, env=ENV, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert "72 of 72 cells done" in done.stdout
    assert all((broken / "cells" / n).stat().st_mtime_ns == t for n, t in written.items())

    for name in ("table.md", "table.csv"):
        assert (broken / name).read_text() == (whole / name).read_text()
    assert (whole / "table.md").read_text().count("\n") > 36
    page = (whole / "report.html").read_text()
    assert page.count("<svg") >= 3 and "±" in page
    cells = [json.loads(p.read_text()) for p in (whole / "cells").glob("*.json")]
    assert {c["seed"] for c in cells} == {0, 1}
    assert {c["values"]["frechet"]["protocol"]["nfe"] for c in cells} == {5, 10, 20, 40}
