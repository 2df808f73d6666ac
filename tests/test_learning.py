"""Whole runs as their configs are written, against the numbers that they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffjax.launch.settings import load_config
from diffjax.train.writer import read_records

ROOT = Path(__file__).parents[1]


def train(config: str, workdir: str, folder: Path) -> None:
    """The command of the README, in `folder`."""
    command = ["-m", "experiments.train", f"--config={config}", f"--workdir={workdir}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def latest(run: Path) -> dict[tuple[str, str], dict]:
    """The last record of each evaluation's values."""
    return {(r["eval"], r["name"]): r for r in read_records(run / "evals.jsonl")}


def as_expected(config: str, last: dict[tuple[str, str], dict]) -> None:
    """Every value that a config expects lies in its band."""
    expected = load_config(config).expected
    assert expected
    for name, (low, high) in expected.items():
        evaluation, _, value = name.partition("/")
        found = last[evaluation, value]["value"]
        assert low <= found <= high, f"{name} is {found}"


@pytest.mark.heavy
def test_digits_reach_their_numbers(tmp_path):
    """At least 97 % of 1,000 samples are given their class by a classifier that is right on at
    least 97 % of the held-out 297; Frechet distance at most twice the held-out digits'."""
    train("configs/ddpm/digits.py", "runs/digits", tmp_path)
    runs = tmp_path / "runs"
    last = latest(runs / "classifier_digits") | latest(runs / "digits")
    assert last["test", "accuracy"]["protocol"]["num_images"] == 297
    assert last["test", "accuracy"]["value"] >= 0.97
    assert last["generation", "class_accuracy"]["protocol"]["num_samples"] == 1000
    assert last["generation", "class_accuracy"]["value"] >= 0.97
    assert last["generation", "frechet_ratio"]["value"] <= 2.0
    # Not by copying: samples are no nearer to the training digits than held-out digits are.
    assert last["generation", "copy_ratio"]["value"] >= 0.5
    assert (runs / "digits" / "report.html").stat().st_size > 100_000


@pytest.mark.heavy
def test_clip_on_shapes_reaches_its_numbers(tmp_path):
    """Every value that the config expects, and what must hold beside it: pairs that training never
    showed are nearly as well known as others, and each question is answered far above chance."""
    train("configs/clip/shapes.py", "runs/clip", tmp_path)
    last = latest(tmp_path / "runs" / "clip")
    as_expected("configs/clip/shapes.py", last)
    count = last["zero_shot", "accuracy"]["protocol"]["num_images"]
    assert 650 < count < 850  # scenes of one object among 1,500
    chance = {"colour": 1 / 8, "shape": 1 / 7, "relation": 1 / 4}
    for question in ("colour", "shape"):
        assert last["questions", question]["value"] > 5 * chance[question]
    assert last["probe", "accuracy"]["value"] > 0.9
    assert (tmp_path / "runs" / "clip" / "report.html").stat().st_size > 100_000


@pytest.mark.heavy
def test_the_digits_vae_reaches_its_numbers(tmp_path):
    """The bound that the config expects, the tighter one above it, both with error bars."""
    train("configs/vae/digits.py", "runs/vae", tmp_path)
    run = tmp_path / "runs" / "vae"
    last = latest(run)
    as_expected("configs/vae/digits.py", last)
    elbo, tight = last["test", "elbo/nats"], last["tight", "iwae/nats"]
    assert elbo["protocol"]["num_images"] == tight["protocol"]["num_images"] == 297
    assert 0 < elbo["std"] < 2 and 0 < tight["std"] < 2
    assert elbo["value"] < tight["value"] < elbo["value"] + 10
    pictures = {p.name.split("_", 1)[1] for p in (run / "figures").rglob("*.png")}
    names = ("reconstruction", "samples", "traversals", "interpolations")
    assert {f"{name}.png" for name in names} <= pictures


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["digits", "shapes_64"])
def test_a_cascade_draws_better_than_enlarging(name, tmp_path):
    """Nearer to real images than its base's samples enlarged bicubically, and made small again its
    samples are those of the base."""
    config = f"configs/cascade/{name}.py"
    train(config, "runs/cascade", tmp_path)
    last = latest(tmp_path / "runs" / "cascade")
    as_expected(config, last)
    assert last["cascade", "consistency"]["value"] > 20
    assert last["cascade", "frechet"]["protocol"]["num_samples"] == 1000
