"""The notebook runs from top to bottom on a tiny run, and shows its pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """A few steps of the digits run, its classifier as small."""
    runs = tmp_path_factory.mktemp("runs")
    command = [
        sys.executable, "-m", "experiments.train", "--config=configs/ddpm/digits_dit.py",
        f"--workdir={runs / 'digits'}", "--config.train.steps=4", "--config.train.log_every=2",
        "--config.train.checkpoint_every=4", "--config.train.batch_size=16",
        "--config.model.width=16", "--config.model.depth=1", "--config.model.heads=2",
        "--config.evals.generation.num_samples=40",
        "--config.features.overrides=('train.steps=4','train.log_every=2',"
        "'train.batch_size=16','model.channels=(8,)')",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return runs / "digits"


@pytest.mark.heavy
def test_notebook_runs_from_top_to_bottom(tiny_run, monkeypatch):
    monkeypatch.setenv("DIFFJAX_RUN", str(tiny_run))
    monkeypatch.setenv("DIFFJAX_COLUMNS", "2")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "notebooks" / "digits.ipynb", as_version=4)
    folder = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=folder).execute()
    shown = [o for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]
    assert sum("image/png" in o["data"] for o in shown) == 5
