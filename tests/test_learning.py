"""The README's first command, as written, against the numbers that it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffjax.train.writer import read_records

ROOT = Path(__file__).parents[1]


@pytest.mark.heavy
def test_digits_reach_their_numbers(tmp_path):
    """At least 97 % of 1,000 samples are given their class by a classifier that is right on at
    least 97 % of the held-out 297; Frechet distance at most twice the held-out digits'."""
    command = [
        "-m",
        "experiments.train",
        "--config=configs/ddpm/digits.py",
        "--workdir=runs/digits",
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = tmp_path / "runs"
    last = {
        (r["eval"], r["name"]): r
        for run in ("classifier_digits", "digits")
        for r in read_records(runs / run / "evals.jsonl")
    }
    assert last["test", "accuracy"]["protocol"]["num_images"] == 297
    assert last["test", "accuracy"]["value"] >= 0.97
    assert last["generation", "agreement"]["protocol"]["num_samples"] == 1000
    assert last["generation", "agreement"]["value"] >= 0.97
    assert last["generation", "frechet_ratio"]["value"] <= 2.0
    # Not by copying: samples are no nearer to the training digits than held-out digits are.
    assert last["generation", "copy_ratio"]["value"] >= 0.5
    assert (runs / "digits" / "report.html").stat().st_size > 100_000
